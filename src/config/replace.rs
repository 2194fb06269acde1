//! Atomic replacement of a file: under a lock, private, with the old version kept as `FILE~`.

use rustix::fs::{FlockOperation, flock};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Readable and writable by its owner only, since the file holds the network's secret.
const PRIVATE: u32 = 0o600;

/// `FILE` with `suffix` appended to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The lock file of `path`. It is never removed, since two writers could then each lock a different file.
pub(super) fn lock_path(path: &Path) -> PathBuf {
    beside(path, "~lock~")
}

/// Held while a file is read, changed and written; dropping it admits the next writer. The system
/// releases it if the process is killed.
pub(super) struct ReplaceLock {
    _file: File,
}

impl ReplaceLock {
    /// Waits for the lock of `path`; `None` if others held it for the whole of `patience`.
    pub(super) fn acquire(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(lock_path(path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(Self { _file: file })),
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => {}
            Err(error) => return Err(error.into()),
        }
        // A blocking lock is fair and polling is not, but a blocking call cannot time out, so
        // another thread blocks. If it gets the lock after we gave up, its send fails and the lock
        // is dropped.
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::Builder::new().name("aemp-rc-lock".into()).spawn(move || {
            let locked = loop {
                match flock(&file, FlockOperation::LockExclusive) {
                    Err(rustix::io::Errno::INTR) => {}
                    done => break done.map(|()| file).map_err(io::Error::from),
                }
            };
            let _gave_up = sender.send(locked);
        })?;
        match receiver.recv_timeout(patience) {
            Ok(locked) => locked.map(|file| Some(Self { _file: file })),
            Err(_) => Ok(None),
        }
    }
}

/// Replaces the content of `path` atomically, so that at every moment (and after a crash) the file is
/// either the complete old or the complete new version. The old one is kept as `FILE~`. The caller holds
/// the [`ReplaceLock`].
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = beside(path, "~new~");
    remove_if_there(&new)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&new)?;
    file.write_all(content)?;
    // The umask may have removed even the owner's permissions.
    file.set_permissions(Permissions::from_mode(PRIVATE))?;
    keep_owner(path, &file)?;
    file.sync_all()?;
    keep_backup(path)?;
    fs::rename(&new, path)?;
    sync_directory_of(path)
}

/// Keeps the file's owner when root changes it.
fn keep_owner(old: &Path, new: &File) -> io::Result<()> {
    match (fs::metadata(old), new.metadata()?) {
        (Ok(old), ours) if (old.uid(), old.gid()) != (ours.uid(), ours.gid()) => {
            // Only root may do this; for other users the new file belongs to them, as after any rename.
            let _not_permitted = fchown(new, Some(old.uid()), Some(old.gid()));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn keep_backup(path: &Path) -> io::Result<()> {
    let link = beside(path, "~old~");
    remove_if_there(&link)?;
    match fs::hard_link(path, &link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Some file systems do not support hard links.
        Err(_) => {
            let old = fs::read(path)?;
            let options = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&link);
            options?.write_all(&old)?;
        }
        Ok(()) => {}
    }
    fs::set_permissions(&link, Permissions::from_mode(PRIVATE))?;
    fs::rename(&link, beside(path, "~"))?;
    // Renaming a file over another hard link to itself does nothing.
    remove_if_there(&link)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match File::open(directory)?.sync_all() {
        // Not every file system can sync directories; the file itself is already synced.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}
