//! CloudEvents over HTTP: the specification's examples, the conformance cases and what real senders get wrong.
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use cloudevents::{AttributesReader, Data, Event, event::ExtensionValue};
use orderflow::cloud_event::{
    DecodeError, DecodeErrorKind, MAX_BATCH, Mode, from_http, from_json, is_json, json_text, mode,
    to_binary, to_json,
};
use orderflow::events::{OrderCompleted, decode};
use proptest::prelude::*;
use serde_json::{Value, json};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// The least that makes a request an event in binary mode, and `more`.
fn binary(more: &[(&str, &str)]) -> HeaderMap {
    let mut all = vec![
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
    ];
    all.extend_from_slice(more);
    headers(&all)
}

/// The least that is an event in the JSON format, with the members of `change` put over it.
fn minimal(change: Value) -> Vec<u8> {
    let mut event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
    merge(&mut event, change);
    event.to_string().into_bytes()
}

fn merge(event: &mut Value, change: Value) {
    let Value::Object(change) = change else {
        panic!("members come in an object")
    };
    event.as_object_mut().unwrap().extend(change);
}

#[track_caller]
fn one(headers: &HeaderMap, body: &str) -> Event {
    let mut events = from_http(headers, body.as_bytes()).unwrap();
    assert_eq!(events.len(), 1);
    events.remove(0)
}

#[track_caller]
fn rejected(change: Value, path: &str, expected: &str, came: &str) {
    assert_error(
        &from_json(&minimal(change)).unwrap_err(),
        path,
        expected,
        came,
    );
}

#[track_caller]
fn assert_error(error: &DecodeError, path: &str, expected: &str, came: &str) {
    assert_eq!(error.path, path, "{error}");
    assert!(error.expected.contains(expected), "{error}");
    assert!(error.came.contains(came), "{error}");
    assert_eq!(error.kind, DecodeErrorKind::Malformed, "{error}");
}

// --- Modes and media types

#[test]
fn mode_is_told_by_the_prefix_of_the_content_type_in_any_case() {
    let table = [
        (None, Mode::Binary),
        (Some(""), Mode::Binary),
        (Some("application/json"), Mode::Binary),
        (Some("application/cloud"), Mode::Binary),
        (Some("application/cloudevents+json"), Mode::Structured),
        (
            Some("Application/CloudEvents+JSON; charset=utf-8"),
            Mode::Structured,
        ),
        (Some("application/cloudevents+xml"), Mode::Structured),
        (Some("application/cloudevents-batch+json"), Mode::Batch),
        (
            Some("APPLICATION/CLOUDEVENTS-BATCH+JSON;charset=UTF-8"),
            Mode::Batch,
        ),
    ];
    for (content_type, expected) in table {
        assert_eq!(mode(content_type), expected, "{content_type:?}");
    }
}

#[test]
fn json_is_told_by_subtype_or_suffix() {
    for json in [
        "application/json",
        "text/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        "a/b+Json ;x=y",
    ] {
        assert!(is_json(json), "{json}");
    }
    for other in [
        "",
        "json",
        "application/jsonl",
        "application/xml",
        "text/plain; x=application/json",
        "a/json+xml",
    ] {
        assert!(!is_json(other), "{other}");
    }
}

#[test]
fn a_structured_content_type_in_any_case_with_parameters_is_accepted() {
    let body = String::from_utf8(minimal(json!({}))).unwrap();
    for content_type in [
        STRUCTURED,
        "Application/CloudEvents+JSON",
        "application/cloudevents+json ; charset=UTF-8",
    ] {
        assert_eq!(
            one(&headers(&[("content-type", content_type)]), &body).id(),
            "1"
        );
    }
}

#[test]
fn event_formats_other_than_json_are_unsupported() {
    let table = [
        ("application/cloudevents+xml", STRUCTURED),
        ("application/cloudevents", STRUCTURED),
        ("application/cloudevents-batch+avro", BATCH),
    ];
    for (content_type, supported) in table {
        let error =
            from_http(&headers(&[("content-type", content_type)]), b"<event/>").unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::UnsupportedMediaType);
        assert_eq!(
            error.to_string(),
            format!("Content-Type: expected {supported}, came {content_type:?}")
        );
    }
}

// --- Conformance cases of the CloudEvents project (cloudevents/conformance)

#[track_caller]
fn assert_conformance_attributes(event: &Event, datacontenttype: &str) {
    assert_eq!(event.id(), "1234-1234-1234");
    assert_eq!(event.specversion().as_str(), "1.0");
    assert_eq!(event.ty(), "com.example.someevent");
    assert_eq!(event.source(), "/mycontext/subcontext");
    assert_eq!(
        event.time().unwrap().to_rfc3339(),
        "2018-04-05T03:56:24+00:00"
    );
    assert_eq!(event.datacontenttype(), Some(datacontenttype));
    let data: Value = serde_json::from_str(json_text(event).unwrap()).unwrap();
    assert_eq!(data, json!({"message": "Hello World!"}));
}

#[test]
fn conformance_binary_content_mode() {
    for content_type in ["application/json", "application/json; charset=utf-8"] {
        let headers = headers(&[
            ("Host", "example.com"),
            ("ce-specversion", "1.0"),
            ("ce-type", "com.example.someevent"),
            ("ce-time", "2018-04-05T03:56:24Z"),
            ("ce-id", "1234-1234-1234"),
            ("ce-source", "/mycontext/subcontext"),
            ("Content-Type", content_type),
        ]);
        let event = one(&headers, "{\n    \"message\": \"Hello World!\"\n}\n");
        assert_conformance_attributes(&event, content_type);
    }
}

#[test]
fn conformance_structured_content_mode() {
    for content_type in [
        "application/cloudevents+json",
        "application/cloudevents+json; charset=utf-8",
    ] {
        let event = one(
            &headers(&[("Host", "example.com"), ("Content-Type", content_type)]),
            r#"{
                "specversion": "1.0",
                "type": "com.example.someevent",
                "time": "2018-04-05T03:56:24Z",
                "id": "1234-1234-1234",
                "source": "/mycontext/subcontext",
                "datacontenttype": "application/json",
                "data": {
                    "message": "Hello World!"
                }
            }"#,
        );
        assert_conformance_attributes(&event, "application/json");
    }
}

/// `yaml/v1.0/v1_minimum.yaml`: id, media type and data of each event.
const MINIMUM: [(&str, &str, &str); 6] = [
    (
        "conformance-0001",
        "text/plain; charset=us-ascii",
        "Hello, World!\n",
    ),
    (
        "conformance-0002",
        "text/plain; charset=utf-8",
        "Hello, 🌎!\n",
    ),
    (
        "conformance-0003",
        "application/json; charset=utf-8",
        "\"Hello, 🌎!\"",
    ),
    (
        "conformance-0004",
        "application/json; charset=utf-8",
        "{\"msg\":\"Hello, 🌎!\"}",
    ),
    (
        "conformance-0005",
        "application/json; charset=utf-8",
        "[\"Hello\",\"🌎!\"]",
    ),
    (
        "conformance-0006",
        "application/xml; charset=utf-8",
        "<msg>Hello, 🌎!</msg>\n",
    ),
];

#[test]
fn conformance_minimum_events_survive_every_mode() {
    for (id, content_type, body) in MINIMUM {
        let sent = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-type", "io.cloudevents.minimum"),
            ("ce-id", id),
            (
                "ce-source",
                "//github.com/cloudevents/cloudeventsconformance/yaml/v1.yaml",
            ),
            ("content-type", content_type),
        ]);
        let event = one(&sent, body);
        assert_eq!(event.id(), id);
        assert_eq!(event.datacontenttype(), Some(content_type));
        let (headers, again) = to_binary(&event);
        assert_eq!(headers, sent);
        assert_eq!(String::from_utf8(again).unwrap(), body);
        assert_eq!(from_json(&to_json(&event)).unwrap(), event);
    }
}

/// `yaml/v03.yaml`, `yaml/v0.3/v03_minimum.yaml`.
#[test]
fn conformance_events_of_version_0_3_are_rejected_by_name() {
    let old = headers(&[("ce-specversion", "0.3"), ("ce-id", "conformance-0001")]);
    let error = from_http(&old, b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"ce-specversion: expected "1.0", came "0.3""#
    );
    rejected(json!({"specversion": "0.3"}), "specversion", "1.0", "0.3");
    rejected(
        json!({"specversion": 1.0}),
        "specversion",
        "1.0",
        "a number with a fraction",
    );
    rejected(
        json!({"specversion": null}),
        "specversion",
        "1.0",
        "nothing",
    );
}

/// `yaml/v1.yaml`: an extension that holds JSON text is a string.
#[test]
fn conformance_extensions_in_binary_and_structured_mode() {
    let text = "{\"othervalue\": 5}";
    let binary = binary(&[
        ("ce-comexampleextension1", "value"),
        ("ce-comexampleextension2", text),
        ("user-agent", "foo"),
    ]);
    let structured =
        minimal(json!({"comexampleextension1": "value", "comexampleextension2": text}));
    for event in [
        one(&binary, "{\"world\":\"hello\"}"),
        from_json(&structured).unwrap(),
    ] {
        assert_eq!(event.iter_extensions().count(), 2);
        assert_eq!(
            event.extension("comexampleextension1"),
            Some(&ExtensionValue::from("value"))
        );
        assert_eq!(
            event.extension("comexampleextension2"),
            Some(&ExtensionValue::from(text))
        );
    }
}

// --- Examples of the JSON format, section 3.2

#[test]
fn json_format_examples_re_encode_in_binary_mode_as_printed() {
    let table = [
        (
            json!({"datacontenttype": "application/vnd.apache.thrift.binary", "data_base64": "AAEC/w=="}),
            "application/vnd.apache.thrift.binary",
            &b"\x00\x01\x02\xff"[..],
        ),
        (
            json!({"unsetextension": null, "datacontenttype": "application/xml", "data": "<much wow=\"xml\"/>"}),
            "application/xml",
            b"<much wow=\"xml\"/>",
        ),
        (
            json!({"subject": null, "datacontenttype": "application/json", "data": {"appinfoA": "abc"}}),
            "application/json",
            b"{\"appinfoA\":\"abc\"}",
        ),
        (
            json!({"data": "I'm just a string"}),
            "application/json",
            b"\"I'm just a string\"",
        ),
    ];
    for (more, content_type, body) in table {
        let mut example = json!({
            "specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "id": "A234-1234-1234",
            "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value", "comexampleothervalue": 5,
        });
        merge(&mut example, more);
        let (sent, sent_body) = to_binary(&from_json(example.to_string().as_bytes()).unwrap());
        let expected = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-type", "com.example.someevent"),
            ("ce-source", "/mycontext"),
            ("ce-id", "A234-1234-1234"),
            ("ce-time", "2018-04-05T17:31:00Z"),
            ("ce-comexampleextension1", "value"),
            ("ce-comexampleothervalue", "5"),
            ("content-type", content_type),
        ]);
        assert_eq!(sent, expected);
        assert_eq!(sent_body, body, "{example}");
    }
}

#[test]
fn to_json_writes_members_in_one_order() {
    let json = concat!(
        r#"{"zebra":"z","data":{"a":1},"id":"1","alpha":true,"type":"t","time":"2018-04-05T19:31:00.120+02:00","#,
        r#""source":"/s","subject":"x","specversion":"1.0","datacontenttype":"application/json","#,
        r#""dataschema":"https://example.com/schema"}"#
    );
    let ordered = concat!(
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"x","time":"2018-04-05T17:31:00.120Z","#,
        r#""datacontenttype":"application/json","dataschema":"https://example.com/schema","#,
        r#""alpha":true,"zebra":"z","data":{"a":1}}"#
    );
    let event = from_json(json.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(to_json(&event)).unwrap(), ordered);
}

// --- Batches

fn batch(body: &str) -> Result<Vec<Event>, DecodeError> {
    from_http(&headers(&[("content-type", BATCH)]), body.as_bytes())
}

#[test]
fn a_batch_may_hold_none_some_or_the_limit() {
    let event = String::from_utf8(minimal(json!({}))).unwrap();
    for count in [0, 1, 2, MAX_BATCH] {
        let body = format!("[{}]", vec![event.as_str(); count].join(","));
        assert_eq!(batch(&body).unwrap().len(), count);
    }
    let body = format!("[{}]", vec![event.as_str(); MAX_BATCH + 1].join(","));
    assert_error(
        &batch(&body).unwrap_err(),
        "",
        "at most 5000 events",
        "more",
    );
}

#[test]
fn an_error_in_a_batch_names_the_event() {
    let good = String::from_utf8(minimal(json!({}))).unwrap();
    let bad = String::from_utf8(minimal(json!({"source": ""}))).unwrap();
    let error = batch(&format!("[{good},{good},{bad},{good}]")).unwrap_err();
    assert_error(&error, "[2].source", "not empty", "empty");
    assert_error(&batch(&good).unwrap_err(), "", "JSON array", "map");
    assert_error(
        &batch(&format!("[{good},7]")).unwrap_err(),
        "",
        "JSON array",
        "integer `7` at line 1 column",
    );
    assert_error(
        &batch(&format!("[{good}")).unwrap_err(),
        "",
        "JSON array",
        "EOF",
    );
}

// --- Headers

#[test]
fn header_values_are_unquoted_and_percent_decoded_once() {
    let table = [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("Euro%20%e2%82%ac", "Euro €"),
        ("Euro €", "Euro €"),
        ("%41%42c", "ABc"),
        ("100%2525", "100%25"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        (r#""two words""#, "two words"),
        (r#""a \"quoted\" back\\slash""#, r#"a "quoted" back\slash"#),
        (r#""%22""#, "\""),
        (r#""\%41""#, "A"),
        (r#""open"#, r#""open"#),
        (r#""a" and "b""#, r#""a" and "b""#),
    ];
    for (value, expected) in table {
        assert_eq!(
            one(&binary(&[("ce-subject", value)]), "").subject(),
            Some(expected),
            "{value}"
        );
    }
}

#[test]
fn header_values_that_are_no_utf_8_are_rejected() {
    for value in ["%C0%A0", "%FF", "\"%E2%82\""] {
        let error = from_http(&binary(&[("ce-subject", value)]), b"").unwrap_err();
        assert_error(&error, "ce-subject", "percent-encoded UTF-8", "%");
    }
}

#[test]
fn header_values_are_percent_encoded_in_upper_case() {
    let event = from_json(&minimal(
        json!({"subject": "Euro € 😀 100% \"q\"~!", "note": "a b"}),
    ))
    .unwrap();
    let (headers, body) = to_binary(&event);
    assert_eq!(
        headers["ce-subject"],
        "Euro%20%E2%82%AC%20%F0%9F%98%80%20100%25%20%22q%22~!"
    );
    assert_eq!(headers["ce-note"], "a%20b");
    assert!(!headers.contains_key("ce-datacontenttype") && !headers.contains_key("content-type"));
    assert!(body.is_empty());
}

#[test]
fn a_request_that_is_no_cloud_event_is_told_what_one_needs() {
    let error = from_http(&headers(&[("content-type", "application/json")]), b"{}").unwrap_err();
    assert_error(
        &error,
        "ce-specversion",
        "application/cloudevents+json",
        "nothing",
    );
    assert!(
        error
            .expected
            .contains("ce-specversion, ce-id, ce-source and ce-type")
    );
}

#[test]
fn header_errors_name_the_header() {
    let mut without_id = binary(&[]);
    without_id.remove("ce-id");
    let table = [
        (without_id, "ce-id", "not empty", "nothing"),
        (
            binary(&[("ce-subject", "")]),
            "ce-subject",
            "not empty",
            "empty",
        ),
        (binary(&[("ce-id", "2")]), "ce-id", "one value", "second"),
        (
            binary(&[("ce-bad_name", "x")]),
            "ce-bad_name",
            "attribute name",
            "this name",
        ),
        (binary(&[("ce-data", "x")]), "ce-data", "body", "header"),
        (
            binary(&[("ce-time", "yesterday")]),
            "ce-time",
            "RFC 3339",
            "yesterday",
        ),
        (
            binary(&[("ce-subject", "a%0Ab")]),
            "ce-subject",
            "control characters",
            r"a\nb",
        ),
    ];
    for (headers, path, expected, came) in table {
        assert_error(&from_http(&headers, b"").unwrap_err(), path, expected, came);
    }
}

#[test]
fn a_forbidden_datacontenttype_header_does_not_override_the_content_type() {
    let event = one(
        &binary(&[
            ("ce-datacontenttype", "text/xml"),
            ("content-type", "text/plain"),
        ]),
        "hello",
    );
    assert_eq!(event.datacontenttype(), Some("text/plain"));
    assert_eq!(event.iter_extensions().count(), 0);
}

#[test]
fn the_body_in_binary_mode_is_what_its_media_type_says() {
    let data = |content_type: &str, body: &str| {
        one(&binary(&[("content-type", content_type)]), body)
            .data()
            .cloned()
    };
    assert_eq!(
        data("Application/JSON", "null"),
        Some(Data::String("null".to_owned()))
    );
    assert_eq!(
        data("text/plain", "{}"),
        Some(Data::String("{}".to_owned()))
    );
    assert_eq!(
        data("application/octet-stream", "{}"),
        Some(Data::Binary(b"{}".to_vec()))
    );
    assert_eq!(data("application/json", ""), None);
    assert_eq!(
        one(&binary(&[]), "{}").data(),
        Some(&Data::Binary(b"{}".to_vec()))
    );

    let error =
        from_http(&binary(&[("content-type", "application/json")]), b"{\"a\":").unwrap_err();
    assert_error(
        &error,
        "data",
        "JSON, as Content-Type says",
        "EOF while parsing a value at line 1 column 5",
    );
}

// --- Attributes in the JSON format

#[test]
fn required_attributes_must_be_there_and_not_be_empty() {
    for name in ["id", "source", "type"] {
        rejected(json!({name: ""}), name, "not empty", "an empty one");
        rejected(json!({name: null}), name, "not empty", "nothing");
        rejected(json!({name: 7}), name, "a string", "7");
        rejected(json!({name: ["x"]}), name, "a string", "an array");
        rejected(
            json!({name: "a\u{0}b"}),
            name,
            "control characters",
            "a\\0b",
        );
    }
    rejected(json!({"subject": ""}), "subject", "not empty", "empty");
    rejected(
        json!({"subject": "\u{FFFE}"}),
        "subject",
        "control characters",
        "fffe",
    );
    rejected(
        json!({"datacontenttype": ""}),
        "datacontenttype",
        "not empty",
        "empty",
    );
}

#[test]
fn a_null_attribute_is_absent() {
    let nulls = json!({
        "subject": null, "time": null, "dataschema": null, "datacontenttype": null, "extension": null, "data_base64": null,
    });
    assert_eq!(
        from_json(&minimal(nulls)).unwrap(),
        from_json(&minimal(json!({}))).unwrap()
    );
}

#[test]
fn time_is_rfc_3339() {
    for (came, expected) in [
        ("2018-04-05T17:31:00Z", "2018-04-05T17:31:00+00:00"),
        ("2018-04-05t17:31:00.5z", "2018-04-05T17:31:00.500+00:00"),
        ("2018-04-05T17:31:00+02:00", "2018-04-05T15:31:00+00:00"),
        (
            "2026-11-22T07:00:00.1234567Z",
            "2026-11-22T07:00:00.123456700+00:00",
        ),
    ] {
        let event = from_json(&minimal(json!({"time": came}))).unwrap();
        assert_eq!(event.time().unwrap().to_rfc3339(), expected);
    }
    for came in [
        "",
        "2018-04-05",
        "2018-04-05T17:31:00",
        "2018-13-05T17:31:00Z",
        "9999-12-31T23:59:59-01:00",
    ] {
        assert_eq!(
            from_json(&minimal(json!({"time": came}))).unwrap_err().path,
            "time",
            "{came}"
        );
    }
    rejected(
        json!({"time": 1_522_949_460}),
        "time",
        "a string",
        "1522949460",
    );
}

#[test]
fn a_relative_data_schema_is_dropped() {
    for schema in ["#", "", "/schemas/order", "schema.json"] {
        let event = from_json(&minimal(json!({"dataschema": schema, "data": 1}))).unwrap();
        assert_eq!(event.dataschema(), None);
        assert_eq!(json_text(&event), Some("1"));
    }
    assert_eq!(
        one(&binary(&[("ce-dataschema", "#")]), "").dataschema(),
        None
    );
    let event = from_json(&minimal(json!({"dataschema": "https://example.com/order"}))).unwrap();
    assert_eq!(
        event.dataschema().unwrap().as_str(),
        "https://example.com/order"
    );
    rejected(json!({"dataschema": 5}), "dataschema", "a URI", "5");
}

#[test]
fn an_extension_that_is_no_scalar_is_dropped() {
    for value in [
        json!(1.5),
        json!(1.0),
        json!({"a": [1, {"b": 2}]}),
        json!([1]),
        json!(null),
    ] {
        let event = from_json(&minimal(json!({"odd": value, "even": 2}))).unwrap();
        assert_eq!(event.extension("odd"), None, "{value}");
        assert_eq!(event.extension("even"), Some(&ExtensionValue::Integer(2)));
    }
}

#[test]
fn an_integer_extension_has_32_bits() {
    for value in [i32::MIN, -1, 0, i32::MAX] {
        let event = from_json(&minimal(json!({"count": value}))).unwrap();
        assert_eq!(
            event.extension("count"),
            Some(&ExtensionValue::Integer(value.into()))
        );
    }
    for value in [
        "2147483648",
        "-2147483649",
        "9223372036854775808",
        "99999999999999999999999",
    ] {
        let json =
            format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","count":{value}}}"#);
        assert_error(
            &from_json(json.as_bytes()).unwrap_err(),
            "count",
            "32 bits",
            "",
        );
    }
}

#[test]
fn extension_strings_and_booleans_are_kept() {
    let event = from_json(&minimal(
        json!({"flag": true, "traceparent": "00-ab", "empty": ""}),
    ))
    .unwrap();
    assert_eq!(
        event.extension("flag"),
        Some(&ExtensionValue::Boolean(true))
    );
    assert_eq!(
        event.extension("traceparent"),
        Some(&ExtensionValue::from("00-ab"))
    );
    assert_eq!(event.extension("empty"), Some(&ExtensionValue::from("")));
    assert_eq!(to_binary(&event).0["ce-flag"], "true");
}

#[test]
fn a_bad_attribute_name_is_rejected() {
    for name in ["Bad_Name", "bad-name", "", "größe", "DATA"] {
        rejected(
            json!({name: "x"}),
            name,
            "lower-case letters and digits",
            "this name",
        );
    }
}

#[test]
fn a_member_given_twice_is_rejected() {
    for member in [
        r#""id":"2""#,
        r#""x":1,"x":1"#,
        r#""x":null,"x":1"#,
        r#""data":1,"data":2"#,
        r#""x":{},"\u0078":2"#,
    ] {
        let json = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{member}}}"#);
        let error = from_json(json.as_bytes()).unwrap_err();
        assert_error(&error, &error.path, "one value", "a second one");
    }
}

#[test]
fn the_number_of_members_is_bounded() {
    let many = (0..200).map(|number| (format!("x{number}"), json!(1)));
    rejected(many.collect(), "", "at most 100 attributes", "204");
}

// --- Data

#[test]
fn data_is_what_the_datacontenttype_says() {
    let text = |text: &str| Some(Data::String(text.to_owned()));
    let table = [
        (json!({"data": {"a": 1}}), text(r#"{"a":1}"#)),
        (json!({"data": null}), text("null")),
        (json!({"data": "text"}), text(r#""text""#)),
        (json!({}), None),
        (
            json!({"datacontenttype": "APPLICATION/JSON", "data": {"a": 1}}),
            text(r#"{"a":1}"#),
        ),
        (
            json!({"datacontenttype": "application/vnd.x+json", "data": "x"}),
            text(r#""x""#),
        ),
        (
            json!({"datacontenttype": "text/plain", "data": "x"}),
            text("x"),
        ),
        (
            json!({"datacontenttype": "text/plain", "data": 1}),
            Some(Data::Json(json!(1))),
        ),
        (
            json!({"data_base64": "eyJhIjoxfQ=="}),
            Some(Data::Binary(b"{\"a\":1}".to_vec())),
        ),
        (
            json!({"datacontenttype": "application/json", "data_base64": "eyJhIjoxfQ=="}),
            text(r#"{"a":1}"#),
        ),
        (
            json!({"datacontenttype": "application/json", "data_base64": "eyI="}),
            Some(Data::Binary(b"{\"".to_vec())),
        ),
    ];
    for (change, expected) in table {
        let event = from_json(&minimal(change.clone())).unwrap();
        assert_eq!(event.data(), expected.as_ref(), "{change}");
        assert_eq!(from_json(&to_json(&event)).unwrap(), event, "{change}");
    }
    let late = br#"{"data":"x","specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain"}"#;
    assert_eq!(
        from_json(late).unwrap().data(),
        Some(&Data::String("x".to_owned()))
    );
}

#[test]
fn bad_data_is_rejected() {
    rejected(
        json!({"data": 1, "data_base64": "AA=="}),
        "data_base64",
        "either data or data_base64",
        "both",
    );
    rejected(
        json!({"data": null, "data_base64": "AA=="}),
        "data_base64",
        "either",
        "both",
    );
    rejected(
        json!({"data_base64": "not base64!"}),
        "data_base64",
        "RFC 4648",
        "",
    );
    rejected(
        json!({"data_base64": {}}),
        "data_base64",
        "RFC 4648",
        "an object",
    );
}

#[test]
fn nesting_is_bounded() {
    let nested = |member: &str, depth: usize| {
        let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","{member}":{value}}}"#)
    };
    // A value that is only skipped or passed on costs no stack.
    assert!(from_json(nested("extension", 500_000).as_bytes()).is_ok());
    let deep = from_json(nested("data", 500_000).as_bytes()).unwrap();
    let error = decode::<OrderCompleted>(&deep).unwrap_err();
    assert_eq!(error.path, "data");
    // What is looked into is bounded.
    let text = r#""datacontenttype":"text/plain","data":"#;
    let looked_into = |depth| nested("data", depth).replace(r#""data":"#, text);
    assert!(from_json(looked_into(120).as_bytes()).is_ok());
    for depth in [130, 500_000] {
        let error = from_json(looked_into(depth).as_bytes()).unwrap_err();
        assert_error(&error, "data", "at most 128 levels", "deeper");
    }
}

#[test]
fn what_is_no_json_object_is_rejected_with_its_place() {
    let table = [
        ("", "an empty body"),
        (" \n", "an empty body"),
        ("7", "integer `7` at line 1 column 1"),
        ("[]", "sequence at line 1"),
        (
            "{\"id\": tru",
            "EOF while parsing a value at line 1 column 10",
        ),
        ("{} {}", "trailing characters at line 1 column 4"),
        ("{\"id\": \"\u{1}\"}", "control character"),
    ];
    for (json, came) in table {
        assert_error(
            &from_json(json.as_bytes()).unwrap_err(),
            "",
            "a CloudEvent as a JSON object",
            came,
        );
    }
    assert!(from_json(b"{\"id\": \"\xff\"}").is_err());
}

#[test]
fn errors_echo_little_of_the_input() {
    let long = "x".repeat(10_000);
    let documents = [
        format!("\"{long}\"").into_bytes(),
        minimal(json!({"specversion": long})),
        minimal(json!({"time": long})),
        minimal(json!({long.to_uppercase(): 1})),
        minimal(json!({"data_base64": format!("{long}!")})),
        minimal(json!({"subject": format!("{long}\n")})),
    ];
    for document in documents {
        let error = from_json(&document).unwrap_err().to_string();
        assert!(error.len() < 300, "{error}");
        assert!(!error.contains(&"x".repeat(81)), "{error}");
    }
}

// --- Properties

/// Strings that CloudEvents allows: no control characters, no noncharacters.
fn string() -> impl Strategy<Value = String> {
    "[ -~\u{A0}-\u{D7FF}\u{E000}-\u{FDCF}\u{FDF0}-\u{FFFD}\u{10000}-\u{1FFFD}]{1,24}"
}

fn extension() -> impl Strategy<Value = Value> {
    prop_oneof![
        string().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from)
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|value| Value::from(f64::from(value) / 4.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..5)
                .prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

fn payload() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        json_value().prop_map(|data| json!({"data": data})),
        json_value().prop_map(|data| json!({"datacontenttype": "application/json", "data": data})),
        any::<String>().prop_map(|data| json!({"datacontenttype": "text/plain", "data": data})),
        Just(json!({"data_base64": "AAEC/w=="})),
        Just(json!({"datacontenttype": "image/png", "data_base64": "AAEC/w=="})),
    ]
}

fn document() -> impl Strategy<Value = Vec<u8>> {
    let time = (0..253_402_300_799_i64, 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| {
        chrono::DateTime::from_timestamp(seconds, nanoseconds)
            .unwrap()
            .to_rfc3339()
    });
    let optional = (prop::option::of(string()), prop::option::of(time));
    let extensions = prop::collection::hash_map("x[a-z0-9]{0,19}", extension(), 0..5);
    (
        string(),
        string(),
        string(),
        optional,
        extensions,
        payload(),
    )
        .prop_map(|(id, source, ty, (subject, time), extensions, payload)| {
            let mut event =
                json!({"id": id, "source": source, "type": ty, "subject": subject, "time": time});
            merge(&mut event, extensions.into_iter().collect());
            merge(&mut event, payload);
            minimal(event)
        })
}

proptest! {
    #[test]
    fn json_round_trip(document in document()) {
        let event = from_json(&document).unwrap();
        let json = to_json(&event);
        prop_assert_eq!(&from_json(&json).unwrap(), &event);
        prop_assert_eq!(to_json(&from_json(&json).unwrap()), json);
    }

    #[test]
    fn binary_mode_round_trip(document in document()) {
        let event = from_json(&document).unwrap();
        let (headers, body) = to_binary(&event);
        let again = from_http(&headers, &body).unwrap().remove(0);
        prop_assert_eq!(again.id(), event.id());
        prop_assert_eq!(again.source(), event.source());
        prop_assert_eq!(again.ty(), event.ty());
        prop_assert_eq!(again.subject(), event.subject());
        prop_assert_eq!(again.time(), event.time());
        for (name, value) in event.iter_extensions() {
            prop_assert_eq!(again.extension(name), Some(&ExtensionValue::from(value.to_string())));
        }
        let empty_text = event.data() == Some(&Data::String(String::new()));
        prop_assert!(again.data() == event.data() || (empty_text && again.data().is_none()));
    }

    #[test]
    fn percent_encoding_round_trip(text in string()) {
        let event = from_json(&minimal(json!({"subject": text}))).unwrap();
        let (headers, _) = to_binary(&event);
        let value = headers["ce-subject"].to_str().unwrap();
        prop_assert!(value.bytes().all(|byte| (0x21..=0x7E).contains(&byte) && byte != b'"'));
        let decoded = one(&binary(&[("ce-subject", value)]), "");
        prop_assert_eq!(decoded.subject(), Some(text.as_str()));
    }

    #[test]
    fn arbitrary_input_never_panics(body in prop::collection::vec(any::<u8>(), 0..200), value in "[ -~]{0,20}") {
        let _ = from_json(&body);
        let _ = batch(&String::from_utf8_lossy(&body));
        let _ = from_http(&binary(&[("ce-subject", &value), ("content-type", "application/json")]), &body);
    }
}
