//! Bodies as large as their limits: what they cost the calls to other registries, and that they are read correctly.

use rexd::grpc::proto::{
    ListTagsRequest, PingRequest, get_manifest_response::Manifest,
    registry_service_client::RegistryServiceClient,
};
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};

use crate::{
    MANIFEST_TARGET, OCI_INDEX, OCI_MANIFEST, REGISTRY, Setting, document, image, index,
    support::{
        call::Call,
        scripted::{Reply, ScriptedRegistry},
        service::{Options, Service, settings},
    },
};

const OTHER: &str = "other.test:5000";
const TAGS_TARGET: &str = "/v2/org/app/tags/list?n=1000";

/// The largest body that the default limits accept.
const LIMIT: usize = 4 << 20;

/// A list of about a million tags: as many as the limit allows.
fn many_tags() -> (usize, String) {
    let count = (LIMIT - 100) / 4;
    let list = r#""t","#.repeat(count);
    (count, format!(r#"{{"name":"org/app","tags":[{}]}}"#, list.trim_end_matches(',')))
}

/// An index of as many entries as the limit allows.
fn many_entries() -> String {
    let entry = format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"sha256:{}","size":1}}"#, "0".repeat(64));
    let count = (LIMIT - 200) / (entry.len() + 1);
    let entries = vec![entry; count].join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entries}]}}"#)
}

/// Calls to another registry that begin and end while `calls` run, one after the other.
async fn others_during(calls: JoinSet<()>, client: &mut RegistryServiceClient<Channel>) -> usize {
    let mut others = 0;
    let all = calls.join_all();
    tokio::pin!(all);
    loop {
        let ping = client.ping(PingRequest { registry: OTHER.to_owned() });
        tokio::select! {
            biased;
            _ = &mut all => return others,
            pong = ping => {
                pong.unwrap();
                others += 1;
            }
        }
    }
}

/// The large bodies of one registry are parsed one at a time on another thread. So on a runtime with one thread, calls to
/// another registry take as many turns as they want meanwhile. Parsed on the runtime's thread, each large body would delay
/// each of the many steps of a call.
#[tokio::test]
async fn calls_to_another_registry_go_on_while_large_bodies_are_parsed() {
    const CALLS: usize = 6;
    let (hostile, other) = (ScriptedRegistry::start().await, ScriptedRegistry::start().await);
    other.always("GET", "/v2/", Reply::status(200));
    hostile.always("GET", TAGS_TARGET, Reply::status(200).body(many_tags().1));
    hostile.always("GET", MANIFEST_TARGET, document(OCI_INDEX, &many_entries()));
    let registries = vec![settings(REGISTRY, hostile.address()), settings(OTHER, other.address())];
    let service = Service::start(registries, Options::default()).await;
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let mut client = service.client().await.max_decoding_message_size(usize::MAX);
        calls.spawn(async move {
            if number % 2 == 0 {
                let request = ListTagsRequest {
                    repository: "org/app".to_owned(),
                    page_size: 1000,
                    ..Default::default()
                };
                let page = client.list_tags(request).await.unwrap().into_inner();
                assert_eq!(page.tags.len(), 1000);
            } else {
                let Call::Manifest(request) = Call::manifest("", "org/app", "v1") else {
                    panic!("another call");
                };
                let response = client.get_manifest(request).await.unwrap().into_inner();
                assert!(response.content.len() > LIMIT - 1024);
                assert_eq!(response.manifest, None, "the view does not fit into the message");
            }
        });
    }
    let others = others_during(calls, &mut service.client().await).await;
    assert!(others >= 10 * CALLS, "{others} calls to another registry ended meanwhile");
}

#[tokio::test]
async fn the_windows_of_a_large_list_join_without_a_gap() {
    let mut setting = Setting::new().await;
    let tags: Vec<String> = (0..400_000).map(|number| format!("t{number:06}")).collect();
    let body = serde_json::json!({ "name": "org/app", "tags": tags }).to_string();
    setting.registry.always("GET", TAGS_TARGET, Reply::status(200).body(body));
    let mut token = String::new();
    for page in 0..3 {
        let found = setting.tags(1000, &token).await.unwrap();
        assert_eq!(found.tags, tags[page * 1000..][..1000]);
        token = found.next_page_token;
    }
    assert!(setting.got_expected_requests());
}

#[tokio::test]
async fn the_entry_of_a_large_index_is_found_and_its_document_is_parsed() {
    let mut setting = Setting::new().await;
    let content = image("arm");
    let mut large = index(&[(OCI_MANIFEST, &content, "linux/arm64")]);
    large["annotations"] = serde_json::json!({ "padding": "x".repeat(1 << 20) });
    let large = large.to_string();
    setting.registry.always("GET", MANIFEST_TARGET, document(OCI_INDEX, &large));
    let target = format!("/v2/org/app/manifests/{}", crate::sha256(content.as_bytes()));
    setting.registry.always("GET", &target, document(OCI_MANIFEST, &content));
    let found = setting.manifest("linux/arm64").await.unwrap();
    assert_eq!(found.index.unwrap().size as usize, large.len());
    assert!(matches!(found.manifest, Some(Manifest::ImageManifest(_))));
    let whole = setting.manifest("").await.unwrap();
    assert!(matches!(whole.manifest, Some(Manifest::ImageIndex(_))));
    setting.fails(&missing_platform(), Code::NotFound, "MANIFEST_UNKNOWN").await;
}

fn missing_platform() -> Call {
    let Call::Manifest(mut request) = Call::manifest("", "org/app", "v1") else {
        panic!("another call");
    };
    request.platform = "windows/amd64".to_owned();
    Call::Manifest(request)
}

/// serde_json skips values of unknown fields without recursion, and refuses more than 128 levels in known ones.
#[tokio::test]
async fn deep_nesting_neither_overflows_the_stack_nor_ends_the_service() {
    let mut setting = Setting::new().await;
    let depth = 1 << 20;
    let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let unknown = image("nested").replacen('{', &format!(r#"{{"x":{nested},"#), 1);
    let known = image("nested").replacen(r#""layers":[]"#, &format!(r#""layers":{nested}"#), 1);
    let list = |body: String| Reply::status(200).header("Content-Type", "application/json").body(body);
    let replies = [document(OCI_MANIFEST, &unknown), document(OCI_MANIFEST, &known)];
    setting.registry.on("GET", MANIFEST_TARGET, replies);
    let lists = [
        list(format!(r#"{{"x":{nested},"tags":["a"]}}"#)),
        list(format!(r#"{{"tags":{nested}}}"#)),
        list("[".repeat(depth)),
        list(format!(r#"{{"errors":{}"#, "[{\"code\":".repeat(depth / 16))),
    ];
    setting.registry.on("GET", TAGS_TARGET, lists);
    assert!(setting.manifest("").await.is_ok());
    let manifest = Call::manifest("", "org/app", "v1");
    setting.fails(&manifest, Code::Internal, "REGISTRY_INVALID_RESPONSE").await;
    assert_eq!(setting.tags(1000, "").await.unwrap().tags, ["a"]);
    for _ in 0..3 {
        let status = setting.tags(1000, "").await.unwrap_err();
        assert!(status.message().contains("instead of a list"), "{status:?}");
    }
    assert!(setting.got_expected_requests());
}
