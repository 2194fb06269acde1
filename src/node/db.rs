//! The global database as programs use it: entries with guards, queries as futures, changes as a
//! stream.

use super::core::Shared;
use super::{Node, ToPort, queue, with_buffer};
use crate::kernel::db::{
    ChangeSet, Datum, DbMonitorId, DbResult, InternalFamily, QueryError, QueryId, QueryKind,
    SetError, Unsendable,
};
use crate::value::{DecodeError, EncodeError, InvalidId, Str, Value, from_value, put_value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use thiserror::Error;

/// Why an entry was not set, or a query was not answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DbError {
    /// The family begins with `'`: such families belong to the protocol.
    #[error(transparent)]
    Internal(#[from] InternalFamily),
    /// The port to be registered is not one.
    #[error(transparent)]
    Port(#[from] InvalidId),
    /// The entry is too large, or nested too deep, to be sent to all nodes.
    #[error("cannot set: {0}")]
    Unsendable(#[from] Unsendable),
    /// The value cannot be represented in Perl's data model.
    #[error("cannot set: {0}")]
    Encode(#[from] EncodeError),
    /// The query has no answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The answer does not have the requested type.
    #[error("unexpected value: {0}")]
    Decode(#[from] DecodeError),
    /// The node was shut down before the answer arrived.
    #[error("no answer: the node was shut down")]
    Shutdown,
}

impl From<SetError> for DbError {
    fn from(error: SetError) -> Self {
        match error {
            SetError::Internal(error) => error.into(),
            SetError::Unsendable(error) => error.into(),
        }
    }
}

/// The database as this node sees it: family -> key -> value. Each entry is owned by the node that
/// set it, and disappears with that node.
///
/// Families and keys are any strings; families that begin with `'` can be read but not written.
/// Values are whatever can be an element of a message.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// let db = node.db();
/// db.set("workers", "w1", ("idle", 4))?;
/// assert_eq!(db.get::<(String, u32)>("workers", "w1").await?.unwrap().1, 4);
/// assert_eq!(db.family::<(String, u32)>("workers").await?.len(), 1);
/// db.delete("workers", ["w1"])?;
/// assert!(db.keys("workers").await?.is_empty());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Db {
    node: Node,
}

impl Node {
    /// The global database.
    pub fn db(&self) -> Db {
        Db { node: self.clone() }
    }
}

impl Db {
    fn shared(&self) -> &Arc<Shared> {
        self.node.shared()
    }

    /// Sets an entry of this node. Perl calls this `db_set`.
    ///
    /// # Errors
    /// Fails for internal families, for values that cannot be represented in Perl's data model, and
    /// for entries that are too large or nested too deep to be sent to all nodes
    /// ([`DbError::Unsendable`]).
    pub fn set(
        &self,
        family: impl Into<Str>,
        key: impl Into<Str>,
        value: impl Serialize,
    ) -> Result<(), DbError> {
        let value = datum(&value)?;
        let (family, key) = (family.into(), key.into());
        Ok(self.shared().kernel(|kernel| kernel.set(&family, key, value))?)
    }

    /// Deletes entries of this node; those of others stay. Perl calls this `db_del`.
    ///
    /// # Errors
    /// Fails for internal families.
    pub fn delete<K: Into<Str>>(
        &self,
        family: impl Into<Str>,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<(), DbError> {
        let family = family.into();
        let keys: Vec<Str> = keys.into_iter().map(Into::into).collect();
        Ok(self.shared().kernel(|kernel| kernel.delete(&family, keys))?)
    }

    /// Sets an entry for as long as the guard lives.
    ///
    /// # Errors
    /// As [`Db::set`].
    pub fn hold(
        &self,
        family: impl Into<Str>,
        key: impl Into<Str>,
        value: impl Serialize,
    ) -> Result<Entry, DbError> {
        let (family, key) = (family.into(), key.into());
        self.set(family.clone(), key.clone(), value)?;
        Ok(Entry { shared: Arc::downgrade(self.shared()), entry: Some((family, key)), death: None })
    }

    /// Adds a port to a family, with its ID as the key, until the port dies or the guard is
    /// dropped. Perl calls this `db_reg`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = aemp::Node::builder().alone().start().await?;
    /// let port = node.port();
    /// let _entry = node.db().register("eg_receivers", &port)?;
    /// assert_eq!(node.db().keys("eg_receivers").await?, [port.id().as_str().to_owned()]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Db::set`], and if a text is not a port ID.
    pub fn register(&self, family: impl Into<Str>, port: impl ToPort) -> Result<Entry, DbError> {
        self.register_with(family, port, ())
    }

    /// As [`Db::register`], with a value: what others should know about the port before they use
    /// it. Perl calls this `db_reg` with three arguments.
    ///
    /// # Errors
    /// As [`Db::set`].
    pub fn register_with(
        &self,
        family: impl Into<Str>,
        port: impl ToPort,
        value: impl Serialize,
    ) -> Result<Entry, DbError> {
        let port = port.to_port()?;
        let family = family.into();
        let key = Str::from(port.clone());
        let mut entry = self.hold(family.clone(), key.clone(), value)?;
        let shared = Arc::downgrade(self.shared());
        entry.death = Some(self.node.on_death(&port, move |_| {
            if let Some(shared) = shared.upgrade() {
                // An internal family would have been refused when the entry was set.
                let _ = shared.kernel(|kernel| kernel.delete(&family, [key]));
            }
        }));
        Ok(entry)
    }

    async fn ask(
        &self,
        query: impl FnOnce(&mut crate::kernel::Kernel) -> QueryId,
    ) -> Result<DbResult, DbError> {
        let (id, mut answer) = self.shared().query(query);
        let _cancel = CancelQuery { shared: self.shared().clone(), id };
        Ok(answer.next().await.ok_or(DbError::Shutdown)??)
    }

    /// A whole family: its keys and values. An unknown family is empty. Perl calls this
    /// `db_family`.
    ///
    /// # Errors
    /// Fails if no global node is connected within `monitor_timeout`, or if a value does not have
    /// the requested type.
    pub async fn family<V: DeserializeOwned>(
        &self,
        family: impl Into<Str>,
    ) -> Result<BTreeMap<Str, V>, DbError> {
        let family = family.into();
        match self.ask(|kernel| kernel.query(QueryKind::Family, &family)).await? {
            DbResult::Family(entries) => {
                entries.iter().map(|(key, value)| Ok((key.clone(), decode(value)?))).collect()
            }
            _ => Err(DbError::Shutdown),
        }
    }

    /// The keys of a family. Perl calls this `db_keys`.
    ///
    /// # Errors
    /// Fails if no global node is connected within `monitor_timeout`.
    pub async fn keys(&self, family: impl Into<Str>) -> Result<Vec<Str>, DbError> {
        let family = family.into();
        match self.ask(|kernel| kernel.query(QueryKind::Keys, &family)).await? {
            DbResult::Keys(keys) => Ok(keys),
            _ => Err(DbError::Shutdown),
        }
    }

    /// The values of a family. Perl calls this `db_values`.
    ///
    /// # Errors
    /// As [`Db::family`].
    pub async fn values<V: DeserializeOwned>(
        &self,
        family: impl Into<Str>,
    ) -> Result<Vec<V>, DbError> {
        let family = family.into();
        match self.ask(|kernel| kernel.query(QueryKind::Values, &family)).await? {
            DbResult::Values(values) => values.iter().map(decode).collect(),
            _ => Err(DbError::Shutdown),
        }
    }

    /// The value of one key, if it is set.
    ///
    /// # Errors
    /// As [`Db::family`].
    pub async fn get<V: DeserializeOwned>(
        &self,
        family: impl Into<Str>,
        key: impl Into<Str>,
    ) -> Result<Option<V>, DbError> {
        let (family, key) = (family.into(), key.into());
        match self.ask(|kernel| kernel.get(&family, &key)).await? {
            DbResult::Value(value) => value.as_ref().map(decode).transpose(),
            _ => Err(DbError::Shutdown),
        }
    }

    /// Waits until a family has a key, and returns one of them: the way to find a service that may
    /// not be running yet. `None` if the node was shut down.
    ///
    /// The port may be gone a moment later; [monitor](Node::monitor) it.
    pub async fn wait_for_key(&self, family: impl Into<Str>) -> Option<Str> {
        let mut changes = self.monitor(family);
        while let Some(change) = changes.next().await {
            if let Some((key, _)) = change.added().next() {
                return Some(key.clone());
            }
        }
        None
    }

    /// Monitors a family: a stream of changes that begins with the whole content as added. Perl
    /// calls this `db_mon`.
    ///
    /// The monitor is set when this returns, and stays set when the node's master changes.
    ///
    /// A key is reported as deleted at once when its owner deletes it, or when the owner's master
    /// loses the connection to the owner. When the master itself is lost (whichever global node
    /// that is, and whatever this node's own master is), its slaves go to another one, and their
    /// entries are expected to be there again soon: for a [grace](crate::NodeBuilder::grace) of 10
    /// s keys are not reported as deleted, and an entry that comes back in time with the same value
    /// is not reported at all. One that does not come back is reported when the grace ends, or
    /// earlier if
    ///
    /// - all other slaves of the lost node have come to another global node, or are known to be
    ///   lost, and nothing has come back for 2 s, or
    /// - this node's own master was the one that was lost, and the key is the ID of a port (as
    ///   [`Db::register`] sets it) whose node this node has lost too.
    ///
    /// Entries that the lost global node set itself cannot be distinguished from those of its
    /// slaves; they are treated like them if it had any. While this node has no master nothing is
    /// reported; the grace begins when the next master has answered. If this node's master is a
    /// Perl node, that master reports the entries of slaves of another global node as deleted as
    /// soon as it loses that node, and as added again later.
    pub fn monitor(&self, family: impl Into<Str>) -> DbMonitor {
        let (id, changes) = self.shared().monitor_family(&family.into());
        DbMonitor { shared: self.shared().clone(), id, changes }
    }
}

fn datum(value: &impl Serialize) -> Result<Datum, EncodeError> {
    with_buffer(|octets| {
        put_value(octets, value)?;
        Ok(Datum::trusted(octets))
    })
}

fn decode<V: DeserializeOwned>(value: &Datum) -> Result<V, DbError> {
    Ok(from_value(&mut crate::value::packed::Reader::new(value.octets()))?)
}

struct CancelQuery {
    shared: Arc<Shared>,
    id: QueryId,
}

impl Drop for CancelQuery {
    fn drop(&mut self) {
        self.shared.cancel_query(self.id);
    }
}

/// An entry that is deleted when this is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// let entry = node.db().hold("workers", "w1", "idle")?;
/// assert_eq!(node.db().keys("workers").await?.len(), 1);
/// drop(entry);
/// assert_eq!(node.db().keys("workers").await?.len(), 0);
/// # Ok(()) }
/// ```
#[must_use = "dropping it deletes the entry"]
pub struct Entry {
    shared: Weak<Shared>,
    entry: Option<(Str, Str)>,
    death: Option<super::MonitorGuard>,
}

impl Entry {
    /// Leaves the entry set until the node ends, or until the port dies.
    pub fn detach(mut self) {
        self.entry = None;
        if let Some(death) = self.death.take() {
            death.detach();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let (Some((family, key)), Some(shared)) = (self.entry.take(), self.shared.upgrade()) {
            // An internal family would have been refused when the entry was set.
            let _ = shared.kernel(|kernel| kernel.delete(&family, [key]));
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// How a family changed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// node.db().set("workers", "w1", 4)?;
/// let change = node.db().monitor("workers").next().await.unwrap();
/// assert!(change.is_initial());
/// assert_eq!(change.added().count(), 1);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Change {
    set: ChangeSet,
}

impl Change {
    /// The family.
    pub fn family(&self) -> &Str {
        &self.set.family
    }

    /// Whether this is the first report: the whole content, as added.
    pub fn is_initial(&self) -> bool {
        self.set.initial
    }

    /// The keys that were not there before, with their values.
    pub fn added(&self) -> impl Iterator<Item = (&Str, Value)> {
        self.set.added.iter().map(|(key, value)| (key, dynamic(value)))
    }

    /// The keys that have a new value.
    pub fn changed(&self) -> impl Iterator<Item = (&Str, Value)> {
        self.set.changed.iter().map(|(key, value)| (key, dynamic(value)))
    }

    /// The keys that are gone.
    pub fn deleted(&self) -> impl Iterator<Item = &Str> {
        self.set.deleted.iter()
    }

    /// The new value of a key as a Rust value, if the change sets it.
    ///
    /// # Errors
    /// Fails if the value does not have the requested type.
    pub fn value<V: DeserializeOwned>(&self, key: &Str) -> Result<Option<V>, DbError> {
        let value = self.set.added.get(key).or_else(|| self.set.changed.get(key));
        value.map(decode).transpose()
    }
}

fn dynamic(value: &Datum) -> Value {
    decode(value).unwrap_or(Value::Undef)
}

/// The changes of a family; dropping it ends the monitor.
///
/// If more than 1000 changes or 1 MiB are queued for a listener, later ones are combined into one:
/// the listener learns the exact final content, but not what happened in between.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// let mut changes = node.db().monitor("workers");
/// assert!(changes.next().await.unwrap().is_initial());
/// node.db().set("workers", "w1", 4)?;
/// let change = changes.next().await.unwrap();
/// let (key, _) = change.added().next().unwrap();
/// assert_eq!(key, "w1");
/// assert_eq!(change.value::<u32>(key)?, Some(4));
/// node.db().delete("workers", ["w1"])?;
/// assert_eq!(changes.next().await.unwrap().deleted().count(), 1);
/// # Ok(()) }
/// ```
pub struct DbMonitor {
    shared: Arc<Shared>,
    id: DbMonitorId,
    changes: queue::Receiver<ChangeSet>,
}

impl DbMonitor {
    /// Waits for the next change; `None` if the node was shut down.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.next().await.map(|set| Change { set })
    }
}

impl futures_core::Stream for DbMonitor {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.changes.poll_next(cx).map(|set| set.map(|set| Change { set }))
    }
}

impl Drop for DbMonitor {
    fn drop(&mut self) {
        self.shared.unmonitor_family(self.id);
    }
}

impl fmt::Debug for DbMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DbMonitor").field("id", &self.id).finish_non_exhaustive()
    }
}
