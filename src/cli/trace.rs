//! Where the time line of a run goes: a file for a trace viewer, and a collector that the standard
//! variables of OpenTelemetry name.

use super::{arguments::GlobalArguments, environment::Environment};
use crate::{event::Warning, progress::Timeline};
use std::{fs, path::Path, time::Duration};

/// How long a collector may take where the variables say nothing else.
const LIMIT: Duration = Duration::from_secs(10);

/// Writes and sends the time line, where that is asked for. What fails is a warning: the run has
/// ended by then, and its outcome stands.
pub(super) fn export(
    timeline: &Timeline,
    global: &GlobalArguments,
    environment: &Environment,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Some(path) = &global.trace {
        warnings.extend(written(timeline, path));
    }
    match Collector::of(environment) {
        Ok(Some(collector)) => {
            if let Err(message) = collector.send(timeline, environment) {
                warnings.push(Warning {
                    code: "TRACE_NOT_SENT",
                    message: format!(
                        "the trace was not sent to `{}`: {message}",
                        collector.shown()
                    ),
                    hint: Some(
                        "see whether the collector runs and takes OTLP over HTTP".to_owned(),
                    ),
                });
            }
        }
        Ok(None) => {}
        Err(warning) => warnings.push(warning),
    }
    warnings
}

fn written(timeline: &Timeline, path: &Path) -> Option<Warning> {
    let error = fs::write(path, timeline.to_chrome().to_string()).err()?;
    Some(Warning {
        code: "TRACE_NOT_WRITTEN",
        message: format!("cannot write the trace to `{}`: {error}", path.display()),
        hint: Some("name a file that can be written with `--trace`".to_owned()),
    })
}

/// A collector of traces.
struct Collector {
    url: url::Url,
    headers: Vec<(String, String)>,
    limit: Duration,
}

impl Collector {
    /// The collector that the environment names.
    fn of(environment: &Environment) -> Result<Option<Self>, Warning> {
        let off = |name: &str, value: &str| {
            environment.text(name).is_some_and(|text| text.eq_ignore_ascii_case(value))
        };
        if off("OTEL_SDK_DISABLED", "true") || off("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let of_traces = environment.non_empty("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let address = match (of_traces, environment.non_empty("OTEL_EXPORTER_OTLP_ENDPOINT")) {
            // The address for traces is taken as it is; to the general one their path is added.
            (Some(address), _) => address,
            (None, Some(base)) => format!("{}/v1/traces", base.trim_end_matches('/')),
            (None, None) => return Ok(None),
        };
        let warning = |message: String, hint: &str| Warning {
            code: "TRACE_NOT_SENT",
            message,
            hint: Some(hint.to_owned()),
        };
        let protocol = environment
            .non_empty("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            .or_else(|| environment.non_empty("OTEL_EXPORTER_OTLP_PROTOCOL"));
        if protocol.as_deref() == Some("grpc") {
            return Err(warning(
                "traces are sent as OTLP over HTTP in JSON, and `grpc` is asked for".to_owned(),
                "set `OTEL_EXPORTER_OTLP_PROTOCOL=http/json` and name the collector's HTTP port",
            ));
        }
        let url = url::Url::parse(&address).map_err(|error| {
            warning(
                format!("the address of the trace collector is none: {error}"),
                "write `OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318`",
            )
        })?;
        let headers = environment
            .non_empty("OTEL_EXPORTER_OTLP_TRACES_HEADERS")
            .or_else(|| environment.non_empty("OTEL_EXPORTER_OTLP_HEADERS"))
            .map(|text| pairs(&text))
            .unwrap_or_default();
        let limit = environment
            .non_empty("OTEL_EXPORTER_OTLP_TIMEOUT")
            .and_then(|text| text.parse().ok())
            .map_or(LIMIT, Duration::from_millis);
        Ok(Some(Self { url, headers, limit }))
    }

    /// The address, without what may be a password in it.
    fn shown(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{host}{port}{}", self.url.scheme(), self.url.path())
    }

    fn send(&self, timeline: &Timeline, environment: &Environment) -> Result<(), String> {
        let service = environment.non_empty("OTEL_SERVICE_NAME");
        let resource = environment.non_empty("OTEL_RESOURCE_ATTRIBUTES");
        let body = timeline.to_otlp(
            service.as_deref().unwrap_or("bk-sync"),
            &resource.map(|text| pairs(&text)).unwrap_or_default(),
            "bk-sync",
            environment.non_empty("TRACEPARENT").as_deref(),
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let mut client = reqwest::Client::builder().timeout(self.limit);
            if self.url.scheme() == "http" {
                // Nothing is to be trusted, so no store of authorities has to be there.
                client = client.tls_certs_only([]);
            }
            let client = client.build().map_err(|error| error.to_string())?;
            let mut request = client.post(self.url.clone()).json(&body);
            for (name, value) in &self.headers {
                request = request.header(name.as_str(), value.as_str());
            }
            let answer = request.send().await.map_err(told)?;
            let status = answer.status();
            if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
        })
    }
}

/// An error with its causes, without the address: that is told already, and may hold a password.
fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// `NAME=VALUE,NAME=VALUE`, with values as in a URL.
fn pairs(text: &str) -> Vec<(String, String)> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), decoded(value.trim())))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

fn decoded(text: &str) -> String {
    // A plus sign is a plus sign here.
    let query = format!("v={}", text.replace('+', "%2B"));
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.next().map_or_else(|| text.to_owned(), |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::{Collector, Environment, pairs};

    fn url(variables: &[(&str, &str)]) -> Option<String> {
        let environment = Environment::fixed(variables.iter().copied());
        Collector::of(&environment).ok().flatten().map(|collector| collector.url.to_string())
    }

    #[test]
    fn the_collector_is_the_one_that_the_standard_variables_name() {
        let (base, own) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let expected = Some("http://c:4318/v1/traces".to_owned());
        assert_eq!(url(&[(base, "http://c:4318")]), expected);
        assert_eq!(url(&[(base, "http://c:4318/")]), expected);
        assert_eq!(
            url(&[(base, "http://c:4318"), (own, "http://d/x")]),
            Some("http://d/x".to_owned())
        );
        assert_eq!(url(&[]), None);
        assert_eq!(url(&[(base, "http://c"), ("OTEL_SDK_DISABLED", "true")]), None);
        let grpc =
            Environment::fixed([(base, "http://c"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert!(Collector::of(&grpc).is_err());
    }

    #[test]
    fn headers_are_pairs_with_values_as_in_a_url() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs("api-key=a%20b, x = 1+1 ,broken"),
            [pair("api-key", "a b"), pair("x", "1+1")]
        );
    }
}
