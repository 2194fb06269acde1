//! `relay`: passes on every octet between two nodes, and prints what they say.

use super::tape::Tape;
use super::transcript::{LineFormat, Transcript};
use super::words::{Words, configured_secret, secret_of};
use crate::errors::{CliError, NetworkError};
use crate::grammar::Options;
use crate::output::{print_line, print_octets};
use crate::show;
use crate::signals::interrupted;
use aemp::config::BindSpec;
use aemp::config::address::{Endpoint, interface_addresses};
use aemp::config::node_id::node_name;
use aemp::wire::auth::Secret;
use aemp::wire::conversation::Side;
use aemp::wire::recording::Entry;
use parking_lot::Mutex;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// How long connecting to the target may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct Relay {
    listen: BindSpec,
    target: String,
    record: Option<PathBuf>,
    secret: Option<String>,
    once: bool,
    json: bool,
}

impl Relay {
    pub(super) fn prepare(mut words: Words) -> Result<Self, CliError> {
        let (listen, target) = (words.next("LISTEN")?, words.next("TARGET")?);
        words.finish()?;
        let invalid = |text: &str, problem: String| CliError::InvalidId {
            what: "address",
            text: text.into(),
            problem,
        };
        let spec = listen.parse().map_err(|error: aemp::config::address::AddressError| {
            invalid(&listen, error.to_string())
        })?;
        let port = target.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(invalid(&target, "write HOST:PORT".into()));
        }
        let Words { record, secret, once, json, .. } = words;
        Ok(Relay { listen: spec, target, record, secret, once, json })
    }

    pub(super) fn execute(self, options: Options) -> Result<(), CliError> {
        let look = LineFormat::new(self.json || options.json);
        let secret = match &self.secret {
            Some(text) => secret_of(text),
            None => configured_secret(),
        };
        let runtime = tokio::runtime::Runtime::new().map_err(CliError::Runtime)?;
        let outcome = runtime.block_on(self.serve(secret, look));
        runtime.shutdown_background();
        outcome
    }

    async fn serve(self, secret: Option<Secret>, look: LineFormat) -> Result<(), CliError> {
        let listener = self.bind().await?;
        let address = listener.local_addr().map_err(|error| problem(&error.to_string()))?;
        print_line("", &format!("listening on {address}, relaying to {}", self.target));
        let mut over = std::pin::pin!(interrupted());
        let mut count = 0;
        let mut tapes: Vec<Arc<Mutex<Tap>>> = Vec::new();
        let outcome = loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                ended = &mut over => break ended,
            };
            let dialler = match accepted {
                Ok((dialler, _)) => dialler,
                Err(error) => {
                    print_line("", &format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            count += 1;
            let tap = match self.tap(secret.clone(), look, count) {
                Ok(tap) => Arc::new(Mutex::new(tap)),
                Err(error) => break Err(error),
            };
            tapes.retain(|tap| Arc::strong_count(tap) > 1);
            tapes.push(tap.clone());
            let connection = connect_through(dialler, self.target.clone(), tap);
            if self.once {
                break tokio::select! {
                    outcome = connection => outcome,
                    ended = &mut over => ended,
                };
            }
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    print_line("", &error);
                }
            });
        };
        for tap in tapes {
            tap.lock().finish();
        }
        outcome
    }

    async fn bind(&self) -> Result<TcpListener, CliError> {
        let interfaces = interface_addresses().unwrap_or_default();
        let endpoints = self.listen.endpoints(&node_name(), &interfaces);
        let mut last =
            format!("cannot listen on {}: it is not an address of this machine", self.listen);
        for endpoint in endpoints {
            let bound = match endpoint {
                Endpoint::Address(address) => TcpListener::bind(address).await,
                Endpoint::Name(name, port) => TcpListener::bind((name.as_str(), port)).await,
            };
            match bound {
                Ok(listener) => return Ok(listener),
                Err(error) => last = format!("cannot listen on {}: {error}", self.listen),
            }
        }
        Err(problem(&last))
    }

    fn tap(
        &self,
        secret: Option<Secret>,
        look: LineFormat,
        number: usize,
    ) -> Result<Tap, CliError> {
        let tape = match &self.record {
            None => None,
            Some(first) => {
                let path = Tape::path_of(first, number);
                let tape = Tape::create(&path, self.secret.as_deref());
                let cannot = |error: io::Error| {
                    problem(&format!("cannot record in {}: {error}", path.display()))
                };
                Some(tape.map_err(cannot)?)
            }
        };
        let number = (!self.once).then_some(number);
        Ok(Tap { transcript: Transcript::new(secret, look, number), tape, began: None })
    }
}

fn problem(text: &str) -> CliError {
    NetworkError::Other(show::escaped(text)).into()
}

/// What is done with the octets besides passing them on.
struct Tap {
    transcript: Transcript,
    tape: Option<Tape>,
    began: Option<Instant>,
}

impl Tap {
    fn hear(&mut self, from: Side, octets: Option<&[u8]>) {
        let began = *self.began.get_or_insert_with(Instant::now);
        let ms = began.elapsed().as_secs_f64() * 1e3;
        let entry = Entry { ms, from, octets: octets.map(<[u8]>::to_vec) };
        // A failure to print must not stop the two nodes.
        let _ = print_octets(self.transcript.hear(&entry).as_bytes());
        self.tape(|tape, transcript| tape.record(&entry, transcript));
    }

    fn finish(&mut self) {
        self.tape(Tape::finish);
    }

    fn tape(&mut self, work: impl FnOnce(&mut Tape, &Transcript) -> io::Result<()>) {
        if let Some(tape) = &mut self.tape
            && let Err(error) = work(tape, &self.transcript)
        {
            print_line("the recording ends here: ", &error);
            self.tape = None;
        }
    }
}

async fn connect_through(
    dialler: TcpStream,
    target: String,
    tap: Arc<Mutex<Tap>>,
) -> Result<(), CliError> {
    let listener = match timeout(CONNECT_TIMEOUT, TcpStream::connect(&target)).await {
        Ok(Ok(listener)) => listener,
        Ok(Err(error)) => return Err(problem(&format!("{target} cannot be reached: {error}"))),
        Err(_) => {
            let seconds = CONNECT_TIMEOUT.as_secs();
            return Err(problem(&format!("{target} did not answer within {seconds} s")));
        }
    };
    for stream in [&dialler, &listener] {
        // If it fails, the only effect is more delay.
        let _ = stream.set_nodelay(true);
    }
    let (from_dialler, to_dialler) = dialler.into_split();
    let (from_listener, to_listener) = listener.into_split();
    tokio::join!(
        pass_on(from_dialler, to_listener, Side::Dialler, &tap),
        pass_on(from_listener, to_dialler, Side::Listener, &tap),
    );
    tap.lock().finish();
    Ok(())
}

/// Passes on what one side sends until it ends. The end is passed on too; the other side may
/// continue.
async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, side: Side, tap: &Mutex<Tap>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let octets = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
        };
        // The octets are recorded before they are passed on, so that an answer never comes before
        // its question.
        tap.lock().hear(side, Some(octets));
        if to.write_all(octets).await.is_err() {
            return;
        }
    }
    tap.lock().hear(side, None);
    let _ = to.shutdown().await;
}
