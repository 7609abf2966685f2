//! What the group's log keeps, through restarts.

use holdfast_words::NodeId;
use openraft::CommittedLeaderId;
use openraft::storage::RaftLogStorageExt;

use super::*;

fn log_id(term: u64, index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

fn entry(term: u64, index: u64) -> Entry {
    let change = holdfast_cluster::Change::BumpEpoch { node: NodeId([index as u8; 20]) };
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(LoggedChange(change)) }
}

fn snapshot(index: u64, bytes: usize) -> StoredSnapshot {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(1, index)),
        snapshot_id: index.to_string(),
        ..SnapshotMeta::default()
    };
    StoredSnapshot { meta, registry: vec![index as u8; bytes] }
}

fn open(directory: &Path) -> LogStore {
    LogStore::open(directory, BootId::default()).unwrap()
}

async fn ids(store: &mut LogStore) -> Vec<(u64, u64)> {
    let entries = store.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| (entry.log_id.leader_id.term, entry.log_id.index)).collect()
}

const GROUP: Group = Group { cluster: ClusterId([1; 20]), founder: true };

#[tokio::test]
async fn votes_entries_and_what_was_taken_back_survive_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = open(temp.path());
    store.begin(GROUP).await.unwrap();
    store.save_vote(&Vote::new(3, 7)).await.unwrap();
    store.blocking_append((0..10).map(|index| entry(1, index))).await.unwrap();
    store.truncate(log_id(1, 6)).await.unwrap();
    store.blocking_append([entry(2, 6)]).await.unwrap();
    store.save_committed(Some(log_id(1, 4))).await.unwrap();
    store.save_snapshot(snapshot(2, 10)).await.unwrap();
    store.purge(log_id(1, 2)).await.unwrap();
    let durable = store.inner.log.positions().durable_lsn();
    assert_eq!(durable, store.inner.log.end().lsn, "everything was durable before it was answered");
    drop(store);
    let mut store = open(temp.path());
    assert_eq!(store.group(), Some(GROUP));
    assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(3, 7)));
    assert_eq!(ids(&mut store).await, [(1, 3), (1, 4), (1, 5), (2, 6)]);
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(1, 4)));
    let state = store.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(1, 2)), Some(log_id(2, 6))));
}

#[tokio::test]
async fn the_log_of_another_group_keeps_nothing_of_the_one_before() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = open(temp.path());
    store.begin(GROUP).await.unwrap();
    store.save_vote(&Vote::new(3, 7)).await.unwrap();
    store.blocking_append([entry(1, 0)]).await.unwrap();
    let other = Group { cluster: ClusterId([2; 20]), founder: false };
    store.begin(other).await.unwrap();
    drop(store);
    let mut store = open(temp.path());
    assert_eq!(store.group(), Some(other));
    assert_eq!(store.read_vote().await.unwrap(), None);
    assert_eq!(ids(&mut store).await, []);
}

#[tokio::test]
async fn the_files_do_not_grow_for_ever() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = open(temp.path());
    store.begin(GROUP).await.unwrap();
    store.save_vote(&Vote::new(9, 9)).await.unwrap();
    for round in 0..40u64 {
        store.blocking_append((0..1000).map(|n| entry(1, round * 1000 + n))).await.unwrap();
        store.save_snapshot(snapshot(round * 1000 + 989, 3 << 20)).await.unwrap();
        store.purge(log_id(1, round * 1000 + 989)).await.unwrap();
    }
    let stats = store.inner.log.stats();
    assert!(stats.segments <= 3, "{} segments", stats.segments);
    drop(store);
    let mut store = open(temp.path());
    assert_eq!(ids(&mut store).await.len(), 10);
    assert_eq!(store.group(), Some(GROUP));
    assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(9, 9)));
}

#[test]
fn a_hole_in_the_entries_is_found() {
    let mut state = State::default();
    assert_eq!(state.first_hole(), None);
    for index in [4, 5, 7] {
        state.apply(Record::Entry(entry(1, index)));
    }
    assert_eq!(state.first_hole(), Some(6));
    state.apply(Record::Purge(log_id(1, 6)));
    assert_eq!(state.first_hole(), None);
    state.apply(Record::Purge(log_id(1, 6)));
    state.apply(Record::Truncate(7));
    state.apply(Record::Entry(entry(2, 8)));
    assert_eq!(state.first_hole(), Some(7), "between the snapshot and the first entry");
}

#[tokio::test]
async fn the_newest_snapshot_survives_a_restart_and_every_rewriting() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = open(temp.path());
    store.begin(GROUP).await.unwrap();
    assert!(!store.is_founded());
    store.blocking_append((0..10).map(|index| entry(1, index))).await.unwrap();
    store.save_snapshot(snapshot(5, 3 << 20)).await.unwrap();
    store.save_snapshot(snapshot(3, 10)).await.unwrap();
    drop(store);
    let mut store = open(temp.path());
    assert_eq!(store.snapshot(), Some(snapshot(5, 3 << 20)), "an older one does not replace it");
    store.purge(log_id(1, 5)).await.unwrap();
    drop(store);
    let mut store = open(temp.path());
    assert_eq!(store.snapshot(), Some(snapshot(5, 3 << 20)));
    assert!(store.is_founded());
    assert_eq!(ids(&mut store).await[0], (1, 6));
    let other = Group { cluster: ClusterId([2; 20]), founder: false };
    store.begin(other).await.unwrap();
    drop(store);
    let store = open(temp.path());
    assert_eq!(store.snapshot(), None);
    assert!(!store.is_founded());
}

#[tokio::test]
async fn entries_are_given_up_only_once_the_snapshot_that_has_them_is_durable() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = open(temp.path());
    store.begin(GROUP).await.unwrap();
    store.blocking_append((0..10).map(|index| entry(1, index))).await.unwrap();
    store.save_snapshot(snapshot(3, 10)).await.unwrap();
    let mut purging = store.clone();
    let purge = tokio::spawn(async move { purging.purge(log_id(1, 5)).await });
    platform::sleep_ms(50).await;
    assert!(!purge.is_finished());
    assert_eq!(ids(&mut store).await.len(), 10);
    store.save_snapshot(snapshot(5, 10)).await.unwrap();
    purge.await.unwrap().unwrap();
    assert_eq!(ids(&mut store).await.len(), 4);
    let mut purging = store.clone();
    let purge = tokio::spawn(async move { purging.purge(log_id(1, 7)).await });
    platform::sleep_ms(20).await;
    store.fail();
    assert!(purge.await.unwrap().is_err(), "who waits for a snapshot that will not come hears of it");
}

#[tokio::test]
async fn who_wrote_for_a_group_that_was_left_writes_nothing_any_more() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = open(temp.path());
    store.begin(GROUP).await.unwrap();
    let mut former = store.clone();
    store.begin(Group { cluster: ClusterId([2; 20]), founder: false }).await.unwrap();
    assert!(former.save_vote(&Vote::new(3, 7)).await.is_err());
    assert!(former.save_snapshot(snapshot(5, 10)).await.is_err());
    store.save_vote(&Vote::new(1, 1)).await.unwrap();
    drop((store, former));
    let mut store = open(temp.path());
    assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(1, 1)));
    assert_eq!(store.snapshot(), None);
}
