//! Pairs of nodes that can talk to each other.

use rustls::server::ServerSessionMemoryCache;

use super::*;

#[tokio::test]
async fn nodes_that_share_a_generated_certificate_meet() {
    let pem = gencert(std::time::UNIX_EPOCH + Duration::from_secs(NOW)).unwrap();
    they_meet(&pem, &pem).await;
}

#[tokio::test]
async fn nodes_that_share_a_certificate_made_by_perl_meet() {
    they_meet(&perl_pem(), &perl_pem()).await;
}

#[tokio::test]
async fn a_leaf_meets_another_of_the_same_ca() {
    let ca = ca("ca");
    let leaf = |name| ca.issue(params(name, false)).pem(&[&ca]);
    they_meet(&leaf("one"), &leaf("two")).await;
}

#[tokio::test]
async fn a_leaf_meets_the_ca_itself() {
    let ca = ca("ca");
    they_meet(&ca.issue(params("leaf", false)).pem(&[&ca]), &ca.pem(&[])).await;
}

#[tokio::test]
async fn nodes_that_list_each_others_certificates_meet() {
    let (one, two) = (ca("same name"), ca("same name"));
    they_meet(&one.pem(&[&two]), &two.pem(&[&one])).await;
}

#[tokio::test]
async fn an_intermediate_is_sent_along_and_need_not_be_known() {
    let root = ca("root");
    let intermediate = root.issue(params("intermediate", true));
    let leaf = intermediate.issue(params("leaf", false));
    they_meet(&leaf.pem(&[&root, &intermediate]), &root.pem(&[])).await;
}

#[tokio::test]
async fn an_intermediate_can_be_the_anchor() {
    let root = ca("root");
    let intermediate = root.issue(params("intermediate", true));
    let leaf = intermediate.issue(params("leaf", false));
    they_meet(&leaf.pem(&[&intermediate]), &intermediate.pem(&[])).await;
}

#[tokio::test]
async fn a_certificate_that_is_a_ca_under_our_ca_meets_us() {
    let ca = ca("ca");
    they_meet(&ca.issue(params("ca too", true)).pem(&[&ca]), &ca.pem(&[])).await;
}

#[tokio::test]
async fn certificates_of_version_1_meet() {
    let own = include_str!("openssl/v1-self-signed.pem");
    they_meet(own, own).await;
    let leaf = include_str!("openssl/v1-leaf.pem");
    they_meet(leaf, leaf).await;
    they_meet(leaf, include_str!("openssl/ca.pem")).await;
}

#[tokio::test]
async fn a_renewed_ca_beside_the_expired_one_is_enough() {
    let mut old = params("ca", true);
    valid(&mut old, -20, -10);
    let old = self_signed(old);
    let renewed = TestCertificate {
        params: params("ca", true),
        key: KeyPair::from_pem(&old.key.serialize_pem()).unwrap(),
        certificate: params("ca", true).self_signed(&old.key).unwrap().pem(),
    };
    let leaf = renewed.issue(params("leaf", false));
    let node = ca("node");
    they_meet(&node.pem(&[&old, &renewed]), &leaf.pem(&[&node])).await;
}

#[tokio::test]
async fn octets_that_were_read_too_early_are_given_back() {
    let node = node(&perl_pem());
    let (mut client_end, server_end) = tokio::io::duplex(100_000);
    let server = async {
        let mut server_end = server_end;
        let mut early = vec![0; 77];
        server_end.read_exact(&mut early).await.unwrap();
        one_side(Rewind::new(early, server_end), false, &node).await
    };
    let (client, server) = tokio::join!(one_side(&mut client_end, true, &node), server);
    assert!(client.unwrap().is_some() && server.unwrap().is_some());
}

#[tokio::test]
async fn a_rewound_stream_yields_the_early_octets_and_then_its_own() {
    let (mut far, near) = tokio::io::duplex(100);
    far.write_all(b" world").await.unwrap();
    drop(far);
    let mut rewound = Rewind::new(&b"hello"[..], near);
    let mut start = [0; 3];
    rewound.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"hel");
    let mut rest = String::new();
    rewound.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "lo world");
}

#[tokio::test]
async fn an_established_connection_says_what_it_is() {
    let node = node(&perl_pem());
    let (client_end, server_end) = tokio::io::duplex(100_000);
    let (client, server) =
        tokio::join!(handshake(client_end, true, &node), handshake(server_end, false, &node));
    let (client, server) = (client.unwrap(), server.unwrap());
    assert_eq!(client.summary(), "TLSv1_3 TLS13_AES_256_GCM_SHA384");
    assert_eq!(server.summary(), client.summary());
    assert_eq!(client.peer(), TlsPeer::Verified);
}

#[tokio::test]
async fn tickets_of_a_server_do_no_harm_and_are_not_used() {
    let config = node(&perl_pem());
    let sessions = ServerSessionMemoryCache::new(10);
    for versions in VERSIONS {
        let config = TlsConfig { versions, ..config.clone() };
        for _ in 0..2 {
            let mut server = config.server(config.verifier()).unwrap();
            server.session_storage = sessions.clone();
            server.send_tls13_tickets = 4;
            let acceptor = TlsAcceptor::from(Arc::new(server));
            let (client_end, server_end) = tokio::io::duplex(100_000);
            let server = async {
                let mut stream = acceptor.accept(server_end).await.unwrap();
                exchange(&mut stream).await.unwrap();
                stream.get_ref().1.handshake_kind()
            };
            let (client, kind) = tokio::join!(one_side(client_end, true, &config), server);
            assert!(client.unwrap().is_some());
            assert_ne!(kind, Some(rustls::HandshakeKind::Resumed));
        }
    }
}

#[tokio::test]
async fn a_client_that_would_resume_is_verified_anew() {
    let config = node(&perl_pem());
    for versions in VERSIONS {
        let config = TlsConfig { versions, ..config.clone() };
        let mut client = config.client(config.verifier()).unwrap();
        client.resumption = Resumption::in_memory_sessions(10);
        let connector = TlsConnector::from(Arc::new(client));
        for _ in 0..2 {
            let (client_end, server_end) = tokio::io::duplex(100_000);
            let client = async {
                let name = ServerName::try_from("node.example").unwrap();
                let mut stream = connector.connect(name, client_end).await.unwrap();
                exchange(&mut stream).await.unwrap();
                stream.get_ref().1.handshake_kind()
            };
            let (kind, server) = tokio::join!(client, one_side(server_end, false, &config));
            assert!(server.unwrap().is_some());
            assert_ne!(kind, Some(rustls::HandshakeKind::Resumed));
        }
    }
}
