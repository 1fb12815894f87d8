//! A client that does not take its answers holds up itself, and nobody else.

use credvault::access::Role;
use credvault::grpc::proto::ListCredentialsRequest;
use http::HeaderValue;
use prost::Message as _;
use tonic::Code;

use crate::support::TestVault;
use crate::support::raw::{Raw, framed, read};

const LIST: &str = "/credvault.v1.CredentialService/ListCredentials";
const GET: &str = "/credvault.v1.CredentialService/GetCredential";

#[tokio::test]
async fn a_third_list_of_a_connection_waits_until_one_of_two_was_read() {
    let vault = TestVault::start().await;
    let token = vault.token("acme", &[Role::Reader]).await;
    let slow = Raw::connect_slow(vault.address, &token).await;
    let request =
        ListCredentialsRequest { parent: "accounts/acme".to_owned(), ..Default::default() };
    let list = framed(&request.encode_to_vec());
    let mut unread = Vec::new();
    for _ in 0..2 {
        let (answer, mut body) = slow.start(slow.head(LIST)).await;
        body.send_data(list.clone().into(), true).unwrap();
        unread.push(answer.await.unwrap().into_body());
    }
    let third = async || {
        let mut head = slow.head(LIST);
        head.headers_mut().insert("grpc-timeout", HeaderValue::from_static("300m"));
        slow.try_call(head, list.clone()).await.unwrap().outcome
    };
    assert_eq!(third().await, "DeadlineExceeded DEADLINE_EXCEEDED");
    // It has given back what it had, and waits again.
    assert_eq!(third().await, "DeadlineExceeded DEADLINE_EXCEEDED");
    assert_eq!(slow.call(GET, framed(&[])).await.code, Code::InvalidArgument, "no list");
    let other = Raw::connect_slow(vault.address, &token).await;
    assert_eq!(other.call(LIST, list.clone()).await.outcome, "OK", "another connection");
    assert_eq!(read(&mut unread[0]).await.unwrap(), framed(&[]), "an empty list");
    assert_eq!(slow.call(LIST, list.clone()).await.outcome, "OK");
    // Who hangs up has read enough.
    unread.clear();
    for _ in 0..2 {
        assert_eq!(slow.call(LIST, list.clone()).await.outcome, "OK");
    }
}
