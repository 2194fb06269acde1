//! The typed settings that result from the rc file and the arguments.
#![allow(missing_docs, clippy::unwrap_used)]

use aemp::config::settings::{CredentialsError, HandshakeLimits};
use aemp::config::{Args, BindSpec, Effective, RcFile, SeedSpec, Service, Settings, Warning};
use aemp::wire::auth::AuthMethod;
use aemp::wire::framing::Framing;
use aemp::wire::session::Encrypt;
use serde_json::{Value, json};
use std::time::Duration;

fn read(arguments: Value, rc: Value) -> Result<(Settings, Vec<Warning>), String> {
    let args = Args::from_run_arguments(arguments.as_array().unwrap()).unwrap();
    let rc = RcFile::parse("rc", rc.to_string().as_bytes()).unwrap();
    let effective = Effective::resolve(&args, Some(&rc), "rain").unwrap();
    effective.settings().map_err(|error| error.to_string())
}

fn from_args(arguments: Value) -> Settings {
    let (settings, warnings) = read(arguments, json!({})).unwrap();
    assert_eq!(warnings, []);
    settings
}

fn from_rc(rc: Value) -> Settings {
    read(json!([]), rc).unwrap().0
}

fn error(arguments: Value) -> String {
    read(arguments, json!({})).unwrap_err()
}

fn warnings(arguments: Value) -> Vec<String> {
    let (_, warnings) = read(arguments, json!({})).unwrap();
    warnings.iter().map(Warning::to_string).collect()
}

const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n\
                   -----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";

#[test]
fn a_node_without_configuration_has_the_defaults() {
    let settings = from_args(json!([]));
    let expected = Settings {
        profile: "rain".into(),
        node_id: "rain/".parse().unwrap(),
        secret: None,
        cert: None,
        binds: vec![BindSpec::ANY],
        seeds: vec![],
        services: vec![],
        monitor_timeout: Duration::from_secs(30),
        connect_interval: Duration::from_secs(2),
        framing_format: vec![Framing::Cbor, Framing::Json, Framing::Storable],
        auth_offer: vec![AuthMethod::TlsSha3_512, AuthMethod::HmacSha3_512],
        auth_accept: vec![
            AuthMethod::TlsSha3_512,
            AuthMethod::HmacSha3_512,
            AuthMethod::TlsAnon,
            AuthMethod::Cleartext,
        ],
        autocork: false,
        nodelay: true,
        secure: false,
        eval: None,
        tls_required: false,
        encrypt: Encrypt::Auto,
        advertise: vec![],
        metrics: None,
        metrics_values: false,
        handshake_limits: HandshakeLimits { total: 1024, per_address: 128 },
        peer_limit: 16 << 20,
        database_limit: 1 << 30,
        heal: true,
        heartbeat: Some(Duration::from_secs(60)),
        shutdown: Duration::from_secs(5),
        log_level: None,
    };
    assert_eq!(settings, expected);
}

#[test]
fn null_is_the_same_as_nothing() {
    let nulls = json!({
        "nodeid": null, "secret": null, "cert": null, "binds": null, "seeds": null,
        "services": null, "monitor_timeout": null, "connect_interval": null,
        "framing_format": null, "auth_offer": null, "auth_accept": null, "autocork": null,
        "nodelay": null, "secure": null, "eval": null, "tls_required": null, "encrypt": null,
        "advertise": null,
        "metrics": null, "metrics_values": null,
        "handshake_limit": null, "handshake_limit_per_address": null,
        "heal": null, "heartbeat": null, "shutdown": null, "log_level": null,
    });
    assert_eq!(from_rc(nulls), from_args(json!([])));
}

#[test]
fn the_time_for_the_end_may_be_none_and_is_bounded() {
    let shutdown = |value: Value| from_args(json!(["shutdown", value])).shutdown;
    assert_eq!(shutdown(json!("0")), Duration::ZERO);
    assert_eq!(shutdown(json!(2.5)), Duration::from_millis(2500));
    for wrong in [json!(-1), json!("x"), json!(3601), json!([1])] {
        assert!(error(json!(["shutdown", wrong])).contains("at most 3600"));
    }
}

#[test]
fn a_heartbeat_is_a_time_or_never() {
    let heartbeat = |value: Value| from_args(json!(["heartbeat", value])).heartbeat;
    assert_eq!(heartbeat(json!("0")), None);
    assert_eq!(heartbeat(json!(2.5)), Some(Duration::from_millis(2500)));
    for wrong in [json!("soon"), json!(-1), json!(1e9), json!([1])] {
        assert!(error(json!(["heartbeat", wrong])).contains("or 0 for never"));
    }
}

#[test]
fn a_log_level_is_a_name_or_a_number() {
    let level = |value: Value| from_args(json!(["log_level", value])).log_level;
    assert_eq!((level(json!("debug")), level(json!("Info"))), (Some(8), Some(7)));
    assert_eq!((level(json!(9)), level(json!("0"))), (Some(9), Some(0)));
    for wrong in ["10", "loud", ""] {
        assert!(error(json!(["log_level", wrong])).contains("log level"));
    }
}

#[test]
fn perl_code_is_a_warning() {
    let (settings, _) = read(json!(["eval", "warn 1"]), json!({})).unwrap();
    assert_eq!(settings.eval.as_deref(), Some("warn 1"));
    let warnings = warnings(json!(["eval", "warn 1"]));
    assert!(warnings.concat().contains("only Perl nodes evaluate"), "{warnings:?}");
    assert_eq!(from_args(json!(["eval", ""])).eval, None);
}

#[test]
fn lists_may_be_separated_by_commas() {
    let seeds = |list: Value| -> Vec<String> {
        from_args(json!(["seeds", list])).seeds.iter().map(SeedSpec::to_string).collect()
    };
    for list in [json!("a:1,b:2"), json!(["a:1", "b:2"]), json!(["a:1,b:2"]), json!("a:1, b:2,")] {
        assert_eq!(seeds(list), ["a:1", "b:2"]);
    }
    assert_eq!(from_args(json!(["framing_format", "json"])).framing_format, [Framing::Json]);
    assert_eq!(from_args(json!(["binds", 4040])).binds, ["4040".parse().unwrap()]);
}

#[test]
fn an_empty_list_of_binds_means_not_to_listen() {
    assert_eq!(from_args(json!(["binds", []])).binds, []);
    assert_eq!(from_args(json!(["binds", ""])).binds, []);
}

#[test]
fn duplicates_in_lists_count_once() {
    assert_eq!(from_args(json!(["binds", "4040,4040"])).binds.len(), 1);
    assert_eq!(from_args(json!(["framing_format", "json,json"])).framing_format.len(), 1);
}

#[test]
fn a_secret_is_octets() {
    let octets = |rc| from_rc(rc).secret.map(aemp::config::Redacted::into_inner);
    assert_eq!(octets(json!({"secret": "a\u{e9}"})), Some(vec![b'a', 0xe9]));
    assert_eq!(octets(json!({"secret": 42})), Some(b"42".to_vec()));
    assert_eq!(octets(json!({"secret": ""})), None);
    let error = read(json!([]), json!({"secret": "ab\u{20ac}"})).unwrap_err();
    assert!(error.starts_with("rc, top level: `secret`: character number 3 is above"), "{error}");
}

#[test]
fn services_are_typed() {
    let services = from_args(json!(["services", ["A::", ["B::run", 1]]])).services;
    let call = Service::Call { function: "B::run".into(), arguments: vec![json!(1)] };
    assert_eq!(services, [Service::Module("A".into()), call]);
    assert_eq!(from_args(json!(["services", "A::,B::run"])).services.len(), 2);
    assert!(error(json!(["services", [[]]])).contains("`services`: [] is not a service"));
}

#[test]
fn times_are_seconds_and_may_have_fractions() {
    let interval = |value| from_args(json!(["connect_interval", value])).connect_interval;
    assert_eq!(interval(json!("2.5")), Duration::from_millis(2500));
    assert_eq!(interval(json!(1)), Duration::from_secs(1));
    for wrong in
        [json!(0), json!(-1), json!("2s"), json!("inf"), json!("nan"), json!(1e9), json!([2])]
    {
        let error = error(json!(["connect_interval", wrong]));
        assert!(error.starts_with("arguments: `connect_interval`: has to be a number"), "{error}");
    }
}

#[test]
fn switches_are_perl_truths() {
    let settings = from_args(json!(["secure", "1", "nodelay", "0", "autocork", true]));
    assert!(settings.secure && !settings.nodelay && settings.autocork);
    let (settings, _) = read(json!(["secure", "false"]), json!({})).unwrap();
    assert!(settings.secure);
    assert_eq!(
        warnings(json!(["secure", "false"])),
        ["arguments: `secure`: \"false\" counts as true; write 0 for false"]
    );
}

#[test]
fn unknown_framings_and_methods_are_ignored_as_long_as_a_known_one_is_left() {
    let (settings, warned) = read(json!(["framing_format", "yaml,json"]), json!({})).unwrap();
    assert_eq!(settings.framing_format, [Framing::Json]);
    assert_eq!(warned.len(), 1);
    assert!(warned[0].to_string().contains("\"yaml\" is unknown"));
    let error = error(json!(["auth_accept", ["md6_64"]]));
    assert!(error.contains("`auth_accept`: has no known name"), "{error}");
}

#[test]
fn the_secret_itself_is_never_offered() {
    let (settings, _) = read(json!(["auth_offer", "cleartext,hmac_sha3_512"]), json!({})).unwrap();
    assert_eq!(settings.auth_offer, [AuthMethod::HmacSha3_512]);
    let error = error(json!(["auth_offer", "cleartext"]));
    assert!(error.ends_with("use at least one of tls_sha3_512, hmac_sha3_512"), "{error}");
}

#[test]
fn a_certificate_needs_its_key() {
    assert!(from_args(json!(["cert", PEM])).cert.is_some());
    let certificate_only = PEM.split_inclusive("END CERTIFICATE-----\n").next().unwrap();
    for wrong in ["/etc/eg.pem", certificate_only] {
        let error = error(json!(["cert", wrong]));
        assert!(error.contains("`cert`: has to be a PEM text"), "{error}");
        assert!(!error.contains(wrong));
    }
}

#[test]
fn encryption_cannot_be_required_with_nothing_to_encrypt_by() {
    for nothing in [
        json!(["tls_required", 1]),
        json!(["tls_required", 1, "secret", "s", "encrypt", 0]),
        json!(["tls_required", 1, "secret", "s", "auth_accept", "cleartext"]),
        json!(["tls_required", 1, "secret", "s", "auth_offer", "tls_sha3_512"]),
    ] {
        assert!(error(nothing).contains("needs a secret"));
    }
    assert!(from_args(json!(["tls_required", 1, "cert", PEM])).tls_required);
    assert!(from_args(json!(["tls_required", 1, "secret", "s"])).tls_required);
}

#[test]
fn encryption_by_the_secret_is_automatic_on_or_off() {
    let encrypt = |value: Value| from_args(json!(["encrypt", value])).encrypt;
    assert_eq!((encrypt(json!("auto")), encrypt(json!("AUTO"))), (Encrypt::Auto, Encrypt::Auto));
    assert_eq!((encrypt(json!(1)), encrypt(json!("1"))), (Encrypt::Always, Encrypt::Always));
    assert_eq!((encrypt(json!(0)), encrypt(json!(false))), (Encrypt::Never, Encrypt::Never));
    for wrong in [json!("yes"), json!(2), json!(""), json!([1])] {
        assert!(error(json!(["encrypt", wrong])).contains("auto, 1 or 0"));
    }
}

#[test]
fn a_number_of_connections_is_whole_and_not_zero() {
    for wrong in [json!(0), json!("many"), json!(1.5), json!(-1), json!([])] {
        let error = error(json!(["handshake_limit", wrong]));
        assert!(error.contains("`handshake_limit`: has to be a whole number"), "{error}");
    }
    let limits = from_args(json!(["handshake_limit", "10", "handshake_limit_per_address", 2]));
    let expected = HandshakeLimits { total: 10, per_address: 2 };
    assert_eq!(limits.handshake_limits, expected);
}

#[test]
fn what_cannot_be_an_address_is_named_with_its_origin() {
    let rc = json!({"profile": {"eg": {"seeds": ["a:1", "b:http"]}}});
    assert_eq!(
        read(json!(["eg"]), rc).unwrap_err(),
        "rc, profile \"eg\": `seeds`: \"b:http\" is not an address of a seed: the port has to be a \
         number; write host:port, [ipv6]:port, 4040 (on this machine) or *:4040"
    );
    assert!(error(json!(["binds", ["a,,b"]])).contains("\"\" is not an address to listen on"));
    assert!(error(json!(["binds", {}])).contains("`binds`: has to be a list"));
}

#[test]
fn a_node_id_is_checked() {
    assert!(error(json!(["nodeid", "a#b"])).starts_with("arguments: `nodeid`: a node ID cannot"));
    assert!(error(json!(["a#b"])).starts_with("built-in defaults: `nodeid`:"));
    assert_eq!(from_args(json!(["eg"])).node_id.as_str(), "eg/");
}

#[test]
fn probable_mistakes_are_warned_about() {
    assert_eq!(
        warnings(json!(["sekret", "x"])),
        ["arguments: `sekret` is not a known key and is ignored; did you mean `secret`?"]
    );
    assert_eq!(
        warnings(json!(["colour", 1])),
        ["arguments: `colour` is not a known key and is ignored"]
    );
    assert_eq!(warnings(json!(["seeds", "eg"])).len(), 1);
    assert!(warnings(json!(["nodeid", "eg", "binds"])).len() == 2);
    let (_, warned) = read(json!([]), json!({"my_service": {}, "version": 1})).unwrap();
    assert_eq!(warned, []);
}

#[test]
fn a_node_needs_a_secret_or_a_certificate() {
    let check = |arguments| from_args(arguments).check_credentials();
    assert!(matches!(check(json!([])), Err(CredentialsError::Missing { .. })));
    assert_eq!(check(json!(["secret", "x"])), Ok(()));
    assert_eq!(check(json!(["cert", PEM])), Ok(()));
    let unusable = check(json!(["secret", "x", "auth_offer", "tls_sha3_512"])).unwrap_err();
    assert_eq!(
        unusable.to_string(),
        "`auth_offer` of profile \"rain\" cannot be used: tls_sha3_512 needs a certificate"
    );
}

#[test]
fn debug_output_shows_no_secrets() {
    let shown = format!("{:?}", from_args(json!(["secret", "sesame", "cert", PEM])));
    assert!(!shown.contains("sesame") && !shown.contains("BEGIN"), "{shown}");
    assert!(!shown.contains("115, 101"), "{shown}");
}
