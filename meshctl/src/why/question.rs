//! What is asked: who calls whom with what. Pure.

use std::str::FromStr;

use heddle_proto::admin::{CallerKind, ExplainRequest};
use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use crate::failure::Failure;

/// Who calls, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    kind: CallerKind,
    namespace: Option<String>,
    name: String,
}

/// Whom, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name or an address.
    pub name: String,
    /// `None`: the service's only one.
    pub port: Option<u16>,
}

/// A header, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header(HeaderName, HeaderValue);

/// What would be sent.
#[derive(Debug)]
pub enum Sent {
    /// This request, where the port's bytes are read as requests.
    Request {
        /// The request.
        request: Box<Request<()>>,
        /// Whether it was asked for, and is not only what is asked about where nothing is said.
        named: bool,
    },
    /// What the application encrypts, for the host.
    Tls,
}

impl FromStr for Caller {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, namespace, name) = match text.split_once('/') {
            None => (CallerKind::Unspecified, None, text),
            Some((first, name)) => match first.to_ascii_lowercase().as_str() {
                "pod" | "pods" | "po" => (CallerKind::Pod, None, name),
                "deploy" | "deployment" | "deployments" | "deployment.apps" => {
                    (CallerKind::Deployment, None, name)
                }
                "sts" | "statefulset" | "statefulsets" | "statefulset.apps" => {
                    (CallerKind::StatefulSet, None, name)
                }
                "ds" | "daemonset" | "daemonsets" | "rs" | "replicaset" | "replicasets" | "job"
                | "jobs" | "daemonset.apps" | "replicaset.apps" | "job.batch" => {
                    (CallerKind::Set, None, name)
                }
                _ => (CallerKind::Unspecified, Some(first.to_owned()), name),
            },
        };
        if name.is_empty() || name.contains('/') || namespace.as_deref() == Some("") {
            return Err("want such as deploy/frontend, pod/frontend-1 or shop/frontend".to_owned());
        }
        Ok(Self { kind, namespace, name: name.to_owned() })
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "want such as api, api.shop:8080, 10.0.0.7:8080 or [fd00::7]:8080".to_owned();
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, port) = rest.split_once(']').ok_or_else(wrong)?;
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').ok_or_else(wrong)?),
                };
                (name, port)
            }
            // Several colons are an address of IPv6.
            None if text.matches(':').count() > 1 => (text, None),
            None => match text.split_once(':') {
                None => (text, None),
                Some((name, port)) => (name, Some(port)),
            },
        };
        let port = match port {
            None => None,
            Some(port) => {
                let number = port.parse::<u16>().ok().filter(|number| *number > 0);
                Some(number.ok_or_else(|| format!("{port:?} is not a port (want 1-65535)"))?)
            }
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        if name.is_empty() || !name.bytes().all(good) {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), port })
    }
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("want such as `x-user: a`")?;
        let name = HeaderName::from_str(name.trim());
        let name = name.map_err(|_invalid| format!("{text:?} begins with no header's name"))?;
        let value = HeaderValue::from_str(value.trim());
        let value = value.map_err(|_invalid| format!("{text:?} ends with no header's value"))?;
        Ok(Self(name, value))
    }
}

impl Caller {
    /// The question for the control plane; a caller without a namespace is of this one.
    pub fn ask(&self, namespace: &str, host: &Host) -> ExplainRequest {
        ExplainRequest {
            namespace: self.namespace.as_deref().unwrap_or(namespace).to_owned(),
            kind: self.kind.into(),
            name: self.name.clone(),
            host: host.name.clone(),
            port: host.port.map_or(0, u32::from),
        }
    }
}

/// The request that is meant: of a method without a path, or a path without a method, the other is as usual.
pub fn request(
    host: &Host,
    (method, path): (Option<&str>, Option<&str>),
    headers: &[Header],
) -> Result<Sent, Failure> {
    let named = method.is_some() || path.is_some() || !headers.is_empty();
    let (method, path) = match (method, path) {
        (Some(only), None) if only.starts_with('/') => (None, Some(only)),
        other => other,
    };
    let (method, path) = (method.unwrap_or("GET"), path.unwrap_or("/"));
    let remedy = "write it as an application would send it, such as GET /items?page=2";
    let method = Method::from_bytes(method.as_bytes()).map_err(|error| {
        Failure::new(format!("{method:?} is no method"), remedy).because(&error)
    })?;
    if !path.starts_with('/') && path != "*" {
        return Err(Failure::new(format!("{path:?} is no path: it begins with no slash"), remedy));
    }
    let uri: Uri = path
        .parse()
        .map_err(|error| Failure::new(format!("{path:?} is no path"), remedy).because(&error))?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let authority = match host.port {
        None => host.name.clone(),
        Some(port) => format!("{}:{port}", host.name),
    };
    for Header(name, value) in headers {
        request.headers_mut().append(name.clone(), value.clone());
    }
    if let (false, Ok(value)) =
        (request.headers().contains_key(HOST), HeaderValue::from_str(&authority))
    {
        request.headers_mut().insert(HOST, value);
    }
    Ok(Sent::Request { request: Box::new(request), named })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_named_with_its_kind_or_its_namespace() {
        for (text, expected) in [
            ("deploy/frontend", Ok((CallerKind::Deployment, None, "frontend"))),
            ("Deployment/frontend", Ok((CallerKind::Deployment, None, "frontend"))),
            ("pod/frontend-1", Ok((CallerKind::Pod, None, "frontend-1"))),
            ("sts/db", Ok((CallerKind::StatefulSet, None, "db"))),
            ("ds/log", Ok((CallerKind::Set, None, "log"))),
            ("shop/frontend", Ok((CallerKind::Unspecified, Some("shop"), "frontend"))),
            ("frontend", Ok((CallerKind::Unspecified, None, "frontend"))),
            ("deploy/", Err(())),
            ("/frontend", Err(())),
            ("a/b/c", Err(())),
        ] {
            let found = text.parse::<Caller>();
            let found = found
                .as_ref()
                .map(|found| (found.kind, found.namespace.as_deref(), found.name.as_str()));
            assert_eq!(found.map_err(|_| ()), expected, "case: {text}");
        }
    }

    #[test]
    fn a_host_may_have_a_port() {
        for (text, expected) in [
            ("api", Ok(("api", None))),
            ("api.shop:8080", Ok(("api.shop", Some(8080)))),
            ("10.0.0.7:80", Ok(("10.0.0.7", Some(80)))),
            ("fd00::7", Ok(("fd00::7", None))),
            ("[fd00::7]:80", Ok(("fd00::7", Some(80)))),
            ("[fd00::7]", Ok(("fd00::7", None))),
            ("api:0", Err(())),
            ("api:http", Err(())),
            ("http://api", Err(())),
            ("", Err(())),
            ("a b", Err(())),
        ] {
            let found = text.parse::<Host>();
            let found = found.as_ref().map(|found| (found.name.as_str(), found.port));
            assert_eq!(found.map_err(|_| ()), expected, "case: {text}");
        }
    }

    #[test]
    fn a_request_has_what_is_said_and_else_what_is_usual() {
        let host: Host = "api:8080".parse().unwrap();
        for (method, path, headers, expected) in [
            (None, None, &[][..], "GET / api:8080 false"),
            (Some("POST"), None, &[], "POST / api:8080 true"),
            (Some("/a?b=c"), None, &[], "GET /a?b=c api:8080 true"),
            (Some("PUT"), Some("/a"), &["host: other"], "PUT /a other true"),
            (Some("OPTIONS"), Some("*"), &[], "OPTIONS * api:8080 true"),
        ] {
            let headers: Vec<Header> = headers.iter().map(|text| text.parse().unwrap()).collect();
            let Sent::Request { request, named } =
                request(&host, (method, path), &headers).unwrap()
            else {
                panic!("no request")
            };
            let host = request.headers()[HOST].to_str().unwrap();
            let shown = format!("{} {} {host} {named}", request.method(), request.uri());
            assert_eq!(shown, expected);
        }
        for (method, path) in [(Some("G T"), None), (Some("GET"), Some("a")), (None, Some("/a b"))]
        {
            let failure = request(&host, (method, path), &[]).unwrap_err().to_string();
            assert!(failure.contains("such as GET /items"), "{failure}");
        }
    }
}
