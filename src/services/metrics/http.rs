//! The HTTP requests that are answered, and their answers.

use super::page::{self, Surroundings};
use super::prometheus;
use crate::node::Node;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use std::net::IpAddr;

/// The content security policy: nothing from other sites, nothing inline, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

type Answer = Response<Full<Bytes>>;

/// What is served, and under which host names.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) node: Node,
    pub(super) around: Surroundings,
    /// Host names that requests may use, besides IP addresses and `localhost`.
    pub(super) names: Vec<String>,
}

/// Answers one request. Its body is ignored.
pub(super) async fn answer<B>(site: &Site, request: &Request<B>) -> Answer {
    let mut answer = match refusal(site, request) {
        Some(refused) => refused,
        None => found(site, request.uri()).await,
    };
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn refusal<B>(site: &Site, request: &Request<B>) -> Option<Answer> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(answer);
    }
    match host(request.uri(), request.headers(), request.version()) {
        Host::Malformed => Some(text(StatusCode::BAD_REQUEST, "the request names no valid host\n")),
        Host::None => None,
        Host::Named(name) if site.answers_to(&name) => None,
        Host::Named(_) => Some(text(
            StatusCode::MISDIRECTED_REQUEST,
            "not known by this host name; use the IP address, localhost, or the machine's name\n",
        )),
    }
}

/// The host in a request.
#[derive(Debug, PartialEq, Eq)]
enum Host {
    /// None. Only HTTP/1.0 allows that, which no browser uses.
    None,
    Named(String),
    Malformed,
}

fn host(uri: &Uri, headers: &HeaderMap, version: Version) -> Host {
    let mut named = headers.get_all(header::HOST).iter();
    let from_header = match (named.next(), named.next()) {
        (None, _) if version == Version::HTTP_10 => None,
        (Some(value), None) => match value.to_str().ok().and_then(|v| v.parse::<Uri>().ok()) {
            Some(uri) => uri.host().map(str::to_owned),
            None => return Host::Malformed,
        },
        _ => return Host::Malformed,
    };
    match (uri.host(), from_header) {
        (None, None) => Host::None,
        (None, Some(name)) => Host::Named(name),
        (Some(name), None) => Host::Named(name.to_owned()),
        // If a request has both, they have to be equal.
        (Some(name), Some(other)) if name == other => Host::Named(other),
        (Some(_), Some(_)) => Host::Malformed,
    }
}

impl Site {
    fn answers_to(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let bare = bare.strip_suffix('.').unwrap_or(bare);
        // With DNS rebinding, a foreign site's requests still name its own host, never an IP address.
        bare.parse::<IpAddr>().is_ok()
            || bare.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|name| name.eq_ignore_ascii_case(bare))
    }
}

async fn found(site: &Site, uri: &Uri) -> Answer {
    let node = &site.node;
    match uri.path() {
        "/" => content("text/html; charset=utf-8", page::HTML),
        "/page.js" => content("text/javascript; charset=utf-8", page::SCRIPT),
        "/page.css" => content("text/css; charset=utf-8", page::STYLE),
        "/icon.svg" => content("image/svg+xml", page::ICON),
        "/status.json" => content(JSON, page::status(node, &site.around).to_string()),
        "/metrics" => content(prometheus::CONTENT_TYPE, prometheus::render(&node.metrics())),
        "/health" => match node.health() {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/family.json" if !site.around.values => {
            text(StatusCode::FORBIDDEN, "values are not shown: `metrics_values` is not set\n")
        }
        "/family.json" => match family(node, uri).await {
            Some(family) => content(JSON, family),
            None => text(StatusCode::NOT_FOUND, "no such family\n"),
        },
        _ => text(StatusCode::NOT_FOUND, "no such page; see /, /metrics and /health\n"),
    }
}

/// `?name=...`, percent-encoded.
async fn family(node: &Node, uri: &Uri) -> Option<String> {
    let name = uri.query()?.strip_prefix("name=")?;
    Some(page::family(node, &percent_decoded(name)?).await?.to_string())
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            out.push(octet);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(out).ok()
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = content(TEXT, text);
    *answer.status_mut() = status;
    answer
}

fn content(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_of(uri: &str, hosts: &[&str], version: Version) -> Host {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        host(&uri.parse().unwrap(), &headers, version)
    }

    #[test]
    fn the_host_is_named_once_or_only_left_out_by_old_clients() {
        let named = |name: &str| Host::Named(name.to_owned());
        let new = Version::HTTP_11;
        assert_eq!(host_of("/", &["a:1"], new), named("a"));
        assert_eq!(host_of("/", &["[::1]:1"], new), named("[::1]"));
        assert_eq!(host_of("http://b/", &["a"], new), Host::Malformed);
        assert_eq!(host_of("http://b/", &["b:80"], new), named("b"));
        assert_eq!(host_of("/", &["a", "b"], new), Host::Malformed);
        assert_eq!(host_of("/", &["a/b c"], new), Host::Malformed);
        assert_eq!(host_of("/", &[], new), Host::Malformed);
        assert_eq!(host_of("/", &[], Version::HTTP_10), Host::None);
        assert_eq!(host_of("/", &["evil.example"], Version::HTTP_10), named("evil.example"));
    }

    #[test]
    fn names_in_addresses_are_decoded() {
        assert_eq!(percent_decoded("a%20b%C3%BC").as_deref(), Some("a bü"));
        for wrong in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decoded(wrong), None, "{wrong}");
        }
    }
}
