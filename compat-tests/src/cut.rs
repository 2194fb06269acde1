//! An address that leads to a node through connections that are cut after a given number of octets.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Passes connections on. Each of the first ones is cut after it has passed on a given number of
/// octets from the dialling side; later ones are not cut.
#[derive(Debug)]
pub struct CutConnections {
    address: String,
    cut: Arc<AtomicUsize>,
}

impl CutConnections {
    /// Passes connections on to `target`; the first ones are cut after `after` octets each.
    ///
    /// # Panics
    /// If no port of 127.0.0.1 is free.
    pub fn to(target: &str, after: impl IntoIterator<Item = usize>) -> CutConnections {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cut = Arc::new(AtomicUsize::new(0));
        let after = Arc::new(Mutex::new(after.into_iter().collect::<VecDeque<_>>()));
        let (target, counter) = (target.to_owned(), Arc::clone(&cut));
        // The thread ends with the test's process.
        thread::spawn(move || {
            for dialled in listener.incoming().flatten() {
                let Ok(node) = TcpStream::connect(&target) else { continue };
                pass_on(dialled, node, &after, &counter);
            }
        });
        CutConnections { address, cut }
    }

    /// The address to dial.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The number of connections that were cut.
    pub fn cut(&self) -> usize {
        self.cut.load(Ordering::SeqCst)
    }
}

/// Connects two streams with each other on threads of their own. A connection takes the next limit
/// only after it has carried more than a handshake, since some are given up before.
fn pass_on(
    dialled: TcpStream,
    node: TcpStream,
    after: &Arc<Mutex<VecDeque<usize>>>,
    cut: &Arc<AtomicUsize>,
) {
    /// Octets of greetings and proofs, at most.
    const HANDSHAKE: usize = 8 << 10;
    let (back_from, back_to) = (node.try_clone().unwrap(), dialled.try_clone().unwrap());
    thread::spawn(move || copy(back_from, back_to, |_| true));
    let (after, cut) = (Arc::clone(after), Arc::clone(cut));
    thread::spawn(move || {
        let mut limit = None;
        copy(dialled, node, |passed| {
            if passed > HANDSHAKE && limit.is_none() {
                limit = Some(after.lock().unwrap().pop_front().unwrap_or(usize::MAX));
            }
            let goes_on = limit.is_none_or(|limit| passed < limit);
            cut.fetch_add(usize::from(!goes_on), Ordering::SeqCst);
            goes_on
        });
    });
}

/// Copies until one stream ends or `goes_on` returns false for the number of copied octets; then
/// ends both.
fn copy(mut from: TcpStream, mut to: TcpStream, mut goes_on: impl FnMut(usize) -> bool) {
    let mut octets = vec![0; 64 << 10];
    let mut passed = 0;
    while let Ok(len) = from.read(&mut octets)
        && len > 0
        && to.write_all(&octets[..len]).is_ok()
    {
        passed += len;
        if !goes_on(passed) {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
