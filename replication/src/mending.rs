//! A start that met damage: the bytes are asked of the other members of the shard, whom this node's own metadata names, before the data
//! are opened. The bus does not run yet: others see a node that is down, so that a master is replaced meanwhile. Damage is mended, or
//! the node goes on trying and serves nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use holdfast_storage::damaged::{MendLogError, mend_log};
use holdfast_storage::data_dir::DataDir;
use holdfast_storage::log::mend::MendError;
use holdfast_storage::log::mend_closed::{ClosedLog, SameRecords};
use holdfast_storage::log::scrub::SegmentDamage;
use holdfast_storage::store::{Damage, Restart, Store, StoreConfig, StoreError};
use holdfast_words::{Lsn, NodeId};

use crate::links::book::Reached;
use crate::metadata_group::offline::OfflineGroup;
use crate::platform;
use crate::stream::rejoin::LogSpan;
use crate::stream::same_bytes::{Asked, Claim, whom_to_ask};
use crate::wire::hello::Identity;

/// Between two rounds of questions to members who did not have the bytes, or were not there.
const AGAIN_MS: u64 = 1000;

/// What is told while a start waits, for whoever supervises it.
pub type Tell<'a> = &'a dyn Fn(&str);

/// What systemd is told of a log that waits to be mended.
const WAITS: &str = "waiting for another member of its shard: its log is damaged and is mended with the same bytes from there";

/// Another member of the shard.
#[derive(Clone, Copy, Debug)]
struct Other {
    node: NodeId,
    bus: Option<SocketAddr>,
}

/// Opens the store of a node in cluster mode as [`Store::open`] does, and has damage put right first where another member of the shard
/// can help: the log is mended in place, and where images are damaged, the store is opened to be copied anew.
///
/// # Errors
/// As [`Store::open`]; damage only when the shard has no other member, or what came was wrong.
pub fn open_store(
    root: &Path,
    config: &StoreConfig,
    secret: &str,
    tell: Tell<'_>,
) -> Result<(Arc<Store>, Restart), StoreError> {
    let (mut last, mut mended) = (None, Vec::new());
    loop {
        let error = match Store::open(root, config.clone()) {
            Ok((store, restart)) => {
                store.note_mended_at_start(&mended);
                return Ok((store, restart));
            }
            Err(error) => error,
        };
        let Some(damage) = error.damage() else { return Err(error) };
        if damage == Damage::Log && last.replace(error.to_string()) == Some(error.to_string()) {
            tracing::error!(
                "what was mended is damaged again, at the same place: the disk does not keep what is written"
            );
            return Err(error);
        }
        let (me, others) = match members(root, secret) {
            Ok((me, others)) if !others.is_empty() => (me, others),
            Ok(_) => return Err(error),
            Err(why) => {
                tracing::error!(
                    why,
                    "nobody can be asked for what is damaged: this node's own metadata cannot be read"
                );
                return Err(error);
            }
        };
        tracing::error!(%error, "the data are damaged; another member of the shard is asked before anything is served");
        let error = match damage {
            Damage::Log => error,
            Damage::Images => match Store::open_damaged(root, config.clone(), &error) {
                Ok((store, restart)) => {
                    store.note_mended_at_start(&mended);
                    tracing::error!(
                        "slot images are damaged: this node serves nothing, and leads nothing, before it has copied everything from \
                         another member of its shard"
                    );
                    return Ok((store, restart));
                }
                // The log as well: first that.
                Err(error) if error.damage() == Some(Damage::Log) => error,
                Err(error) => return Err(error),
            },
        };
        match mend(root, &me, &others, tell) {
            Ok(places) => mended.extend(places),
            Err(why) => {
                tracing::error!(%why, "what is damaged could not be mended");
                return Err(error);
            }
        }
    }
}

/// This node as it says hello, and the other members of its shard as far as its own metadata knows.
fn members(root: &Path, secret: &str) -> Result<(Identity, Vec<Other>), String> {
    let directory = DataDir::open_offline(root).map_err(|error| error.to_string())?;
    let node = directory.identity().node;
    let me = Identity { node, secret: secret.as_bytes().to_vec() };
    if !directory.identity().in_group {
        return Ok((me, Vec::new()));
    }
    let group = OfflineGroup::open(&directory.metadata(), directory.boot());
    let group = group.map_err(|error| error.to_string())?;
    let registry = &group.known().registry;
    let Some((_, register)) = registry.shard_of(node) else { return Ok((me, Vec::new())) };
    let others = whom_to_ask(register, node).into_iter().map(|other| {
        let bus = registry.nodes.get(&other).and_then(Reached::of).map(|reached| reached.bus);
        Other { node: other, bus }
    });
    Ok((me, others.collect()))
}

/// Mends the log, however long the others take to be there.
fn mend(root: &Path, me: &Identity, others: &[Other], tell: Tell<'_>) -> Result<Vec<SegmentDamage>, String> {
    let runtime = platform::runtime().map_err(|error| error.to_string())?;
    let mut members = Members { runtime, me, others, answers: None };
    let mut told = None;
    loop {
        match mend_log(root, &mut members) {
            Ok(mended) if mended.places.is_empty() => {
                return Err("no damage is found on a second look".to_owned());
            }
            Ok(mended) => {
                for place in &mended.places {
                    tracing::warn!(damage = %place, "damage in the log was mended with another member's bytes, and verified");
                }
                for kept in &mended.kept {
                    tracing::warn!(damaged_file = %kept.display(), "the damaged file is kept");
                }
                return Ok(mended.places);
            }
            Err(MendLogError::Mend(error @ MendError::NoBytes { .. })) => {
                let why = error.to_string();
                if told.as_ref() != Some(&why) {
                    tracing::error!(
                        why,
                        "the log's lost bytes cannot be had yet; asked for again until they can. To give this node's data up instead, \
                         stop it, move its directory's wal/ and images/ away and let it copy from its master"
                    );
                    tell(WAITS);
                    told = Some(why);
                }
                platform::threads::sleep(std::time::Duration::from_millis(AGAIN_MS));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// The other members; the one that answered last is asked first.
struct Members<'a> {
    runtime: tokio::runtime::Runtime,
    me: &'a Identity,
    others: &'a [Other],
    answers: Option<Asked>,
}

impl SameRecords for Members<'_> {
    fn records(&mut self, log: &ClosedLog, from: Lsn) -> Result<Vec<u8>, String> {
        let span = LogSpan { history: log.history.clone(), first_lsn: log.first_lsn, end: log.end };
        let claim = Claim { shard: log.owner, span };
        if let Some(answers) = &mut self.answers
            && let Ok(records) = self.runtime.block_on(answers.records(&claim, from))
        {
            return Ok(records);
        }
        self.answers = None;
        let mut refusals = Vec::new();
        for Other { node, bus } in self.others {
            let Some(bus) = *bus else {
                refusals.push(format!("{node}: its address is not known"));
                continue;
            };
            let asked = async {
                let mut asked = Asked::dial(self.me, *node, bus).await?;
                let records = asked.records(&claim, from).await?;
                Ok::<_, crate::stream::same_bytes::AskError>((asked, records))
            };
            match self.runtime.block_on(asked) {
                Ok((asked, records)) => {
                    self.answers = Some(asked);
                    return Ok(records);
                }
                Err(error) => refusals.push(format!("{node}: {error}")),
            }
        }
        Err(refusals.join("; "))
    }
}
