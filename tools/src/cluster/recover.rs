//! `holdfast cluster recover`: a cluster again, when a majority of voters is gone for good. What becomes of the registry decides
//! `holdfast_cluster::recover`, what is written `holdfast_replication::metadata_group::offline`; here is the conversation.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use holdfast_cluster::Registry;
use holdfast_cluster::recover::recover as recovered;
use holdfast_replication::metadata_group::offline::OfflineGroup;
use holdfast_storage::data_dir::DataDir;
use holdfast_storage::platform::{clock, random};
use holdfast_words::{ClusterId, NodeId};

use super::show;

/// Fewer digits of an id name nobody.
const PREFIX_MIN: usize = 4;

/// What `holdfast cluster recover` takes.
#[derive(Args)]
pub struct RecoverArguments {
    /// The directory of a stopped node that is left
    dir: PathBuf,
    /// Who is left, this node included or not: ids (or how they begin) or ip:port; all others are lost
    #[arg(long, value_delimiter = ',', value_name = "NODE", conflicts_with_all = ["lost", "into"])]
    keep: Vec<String>,
    /// Who is gone for good; all others are left
    #[arg(long, value_delimiter = ',', value_name = "NODE", conflicts_with = "into")]
    lost: Vec<String>,
    /// On every further survivor: have it join, with its data, the cluster that another one was recovered to
    #[arg(long, value_name = "CLUSTER")]
    into: Option<ClusterId>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Even though a majority of the voters is left
    #[arg(long)]
    force: bool,
}

pub(super) fn recover(
    arguments: &RecoverArguments,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<()> {
    let data = DataDir::open_offline(&arguments.dir)?;
    let me = data.identity().node;
    let mut group = OfflineGroup::open(&data.metadata(), data.boot())?;
    let now_ms = clock::wall_clock_ms();
    if group.known().registry.is_founded() {
        write!(out, "{}", show::known(group.known(), me, now_ms))?;
    } else {
        writeln!(out, "This node ({me}) knows nothing of any cluster.")?;
    }
    if let Some(cluster) = arguments.into {
        return join(arguments, &data, &mut group, cluster, input, out);
    }
    let known = group.known().clone();
    if arguments.keep.is_empty() && arguments.lost.is_empty() {
        writeln!(out, "\nNothing is changed: say who is left (--keep) or who is gone for good (--lost).")?;
        return Ok(());
    }
    let kept = kept(&known.registry, me, arguments)?;
    let voters_kept = known.registry.voters.intersection(&kept).count();
    ensure!(
        voters_kept < known.registry.majority() || arguments.force,
        "a majority of the voters is left ({voters_kept} of {}): start them, and the cluster goes on by itself with nothing lost \
         (--force if they cannot be started)",
        known.registry.voters.len()
    );
    let mut cluster = ClusterId::default();
    random::fill(&mut cluster.0).context("cannot draw an id")?;
    let after = recovered(&known.registry, me, &kept, cluster);
    write!(out, "{}", show::plan(&known, &after, now_ms))?;
    confirm(arguments.yes, input, out)?;
    let aside = keep_a_copy(&data)?;
    group.begin_group(me, &after.registry)?;
    writeln!(
        out,
        "\nDone. The metadata as it was is in {}.\nStart this node, and on each other survivor run, while it is stopped,",
        aside.display()
    )?;
    writeln!(out, "  holdfast cluster recover DIR --into {cluster}\nand start it: it joins with its data.")?;
    for node in kept.iter().filter(|node| **node != me) {
        writeln!(out, "  * {}", show::name(&known.registry, *node))?;
    }
    if after.registry.slots.assigned() < known.registry.slots.assigned() {
        writeln!(
            out,
            "Slots without an owner keep the cluster down (cluster-require-full-coverage): give them to a master with\n  redis-cli … \
             CLUSTER ADDSLOTSRANGE first last\nThey begin empty."
        )?;
    }
    Ok(())
}

fn join(
    arguments: &RecoverArguments,
    data: &DataDir,
    group: &mut OfflineGroup,
    cluster: ClusterId,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<()> {
    if group.known().group.is_some_and(|group| group.cluster == cluster) {
        bail!("this node belongs to cluster {cluster} already: start it");
    }
    writeln!(
        out,
        "\nThis node leaves its cluster and waits, with its data, for the nodes of cluster {cluster}. They must have been told\nthat it is \
         left (--keep, --lost): who is no member there waits for ever. What it has and its shard there has not is\nset aside, readable, \
         when it follows."
    )?;
    confirm(arguments.yes, input, out)?;
    let aside = keep_a_copy(data)?;
    group.join_group(cluster)?;
    writeln!(out, "\nDone. The metadata as it was is in {}. Start this node.", aside.display())?;
    Ok(())
}

/// Everybody named, and nobody twice meant.
fn kept(registry: &Registry, me: NodeId, arguments: &RecoverArguments) -> Result<BTreeSet<NodeId>> {
    ensure!(
        registry.nodes.contains_key(&me),
        "this node is not a member of the cluster it knows: recover on another survivor, then use --into here"
    );
    let named =
        |names: &[String]| names.iter().map(|name| find(registry, name)).collect::<Result<BTreeSet<_>>>();
    let (keep, lost) = (named(&arguments.keep)?, named(&arguments.lost)?);
    ensure!(!lost.contains(&me), "this node cannot be among the lost: it is the one to begin with");
    if lost.is_empty() {
        return Ok(keep.into_iter().chain([me]).collect());
    }
    Ok(registry.nodes.keys().copied().filter(|node| !lost.contains(node)).collect())
}

fn find(registry: &Registry, name: &str) -> Result<NodeId> {
    let is_meant = |id: &NodeId, address: String| {
        address == name || (name.len() >= PREFIX_MIN && id.to_string().starts_with(name))
    };
    let mut found = registry.nodes.values().filter(|record| is_meant(&record.id, show::address(record)));
    match (found.next(), found.next()) {
        (Some(record), None) => Ok(record.id),
        (None, _) => bail!(
            "no node {name:?} in this registry: give its id, how the id begins ({PREFIX_MIN} digits), or ip:port"
        ),
        (Some(_), Some(_)) => bail!("{name:?} is the beginning of more than one node's id"),
    }
}

fn confirm(yes: bool, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<()> {
    if yes {
        return Ok(());
    }
    write!(out, "\nType yes to go on: ")?;
    out.flush()?;
    let mut line = String::new();
    input.read_line(&mut line).context("cannot read the answer")?;
    ensure!(line.trim() == "yes", "nothing was changed");
    Ok(())
}

/// Copies `metadata/` to `set-aside/metadata-<n>`, durably.
fn keep_a_copy(data: &DataDir) -> Result<PathBuf> {
    let (from, aside) = (data.metadata(), data.set_aside());
    let free = (1u32..).map(|number| aside.join(format!("metadata-{number}"))).find(|path| !path.exists());
    let to = free.context("no free name")?;
    let cannot = |path: &Path| format!("cannot keep a copy of {}", path.display());
    fs::create_dir_all(&to).with_context(|| cannot(&from))?;
    for entry in fs::read_dir(&from).with_context(|| cannot(&from))? {
        let path = entry.with_context(|| cannot(&from))?.path();
        if path.is_file() {
            let copy = to.join(path.file_name().unwrap_or_default());
            fs::copy(&path, &copy).with_context(|| cannot(&path))?;
            fs::File::open(&copy).and_then(|file| file.sync_all()).with_context(|| cannot(&path))?;
        }
    }
    for directory in [&to, &aside] {
        fs::File::open(directory).and_then(|file| file.sync_all()).with_context(|| cannot(&from))?;
    }
    Ok(to)
}
