//! tmp
use aemp::Node;
use aemp::node::tls::{self, AnonymousClients, Identity, TlsConfig};
use aemp::services::streams::DataStream;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
const TOTAL: usize = 1 << 30;
async fn send(mut s: impl AsyncWrite + Unpin) {
    let b = vec![7u8; 64 << 10];
    for _ in 0..TOTAL / b.len() {
        s.write_all(&b).await.unwrap();
    }
    s.flush().await.unwrap();
    s.shutdown().await.unwrap();
    std::mem::forget(s);
}
async fn receive(mut s: impl AsyncRead + Unpin) -> f64 {
    let mut b = vec![0u8; 64 << 10];
    let mut t = None;
    let mut n = 0;
    while n < TOTAL {
        let g = s.read(&mut b).await.unwrap();
        if t.is_none() {
            t = Some(Instant::now());
        }
        assert!(g > 0);
        n += g;
    }
    let s = t.unwrap().elapsed().as_secs_f64();
    TOTAL as f64 / s / 1e6
}
async fn bare(cfg: Option<&TlsConfig>) -> f64 {
    let l = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let a = l.local_addr().unwrap();
    let c2 = cfg.cloned();
    let server = tokio::spawn(async move {
        let (s, _) = l.accept().await.unwrap();
        s.set_nodelay(true).unwrap();
        match c2 {
            None => send(s).await,
            Some(c) => send(tls::handshake(s, false, &c).await.unwrap().stream).await,
        }
    });
    let s = TcpStream::connect(a).await.unwrap();
    s.set_nodelay(true).unwrap();
    let h = match cfg {
        None => tokio::spawn(receive(s)),
        Some(c) => {
            let st = tls::handshake(s, true, c).await.unwrap().stream;
            tokio::spawn(receive(st))
        }
    };
    let r = h.await.unwrap();
    server.await.unwrap();
    r
}
#[tokio::main]
async fn main() {
    let pem = tls::gencert(std::time::SystemTime::now()).unwrap();
    let identity = Identity::from_pem(pem.as_bytes()).unwrap();
    let cfg = TlsConfig::new(&identity, AnonymousClients::Refused);
    for tls_on in [false, true] {
        let mut nodes: Vec<Node> = vec![];
        for id in ["a", "b"] {
            let mut b = Node::builder().node_id(id).secret("x").bind("127.0.0.1:0");
            if tls_on {
                b = b.cert(&pem);
            }
            if let Some(s) = nodes.first() {
                b = b.seed(&s.addresses()[0].to_string());
            }
            nodes.push(b.start().await.unwrap());
        }
        nodes[1].joined().await;
        nodes[0].register_stream("send", |(): (), s: DataStream| async move { send(s).await });
        let (mut x, mut y) = (vec![], vec![]);
        for _ in 0..7 {
            x.push(bare(tls_on.then_some(&cfg)).await);
            let s = nodes[1].connect_stream(nodes[0].id(), "send", ()).await.unwrap();
            assert_eq!(s.is_encrypted(), tls_on);
            y.push(tokio::spawn(receive(s)).await.unwrap());
        }
        println!("tls {tls_on} bare {x:.0?} stream {y:.0?} MB/s");
        x.sort_by(f64::total_cmp);
        y.sort_by(f64::total_cmp);
        println!("median {:.0} {:.0} ratio {:.3}", x[3], y[3], y[3] / x[3]);
    }
}
