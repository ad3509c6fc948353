//! Logins that the brokers accept and refuse.

use wscluster_admin::health::KafkaStatus;
use wscluster_api::spec::{Credential, Kafka, Sasl, SaslMechanism, Security, Tls, Topic};

use super::{Rig, has, numbers, var};

fn file(path: String) -> Credential {
    Credential { file: Some(path), ..Credential::default() }
}

fn secured(rig: &Rig, brokers: &str, security: Security) -> Kafka {
    let brokers = var(brokers).split(',').map(str::to_owned).collect();
    Kafka { brokers, security: Some(security), ..rig.spec() }
}

fn tls() -> Tls {
    Tls { ca: Some(file(var("KAFKA_CA"))), ..Tls::default() }
}

/// Login with a password from a file.
fn sasl(dir: &tempfile::TempDir, mechanism: SaslMechanism, user: &str, password: &str) -> Sasl {
    let path = dir.path().join("password");
    std::fs::write(&path, password).unwrap();
    let password = Some(file(path.to_str().unwrap().to_owned()));
    Sasl { mechanism, username: Some(user.to_owned()), username_from: None, password, oauth: None }
}

#[test]
#[ignore = "needs a real Kafka"]
fn logs_in_by_every_mechanism_and_by_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::new("login", 1);
    rig.send(0, numbers(0..1));
    let (user, password) = (var("KAFKA_USER"), var("KAFKA_PASSWORD"));
    for mechanism in [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512] {
        let login = Security { tls: Some(tls()), sasl: Some(sasl(&dir, mechanism, &user, &password)) };
        let spec = secured(&rig, "KAFKA_SASL_BROKERS", login);
        rig.start(&spec);
        assert_eq!(rig.until_filled().len(), 1, "{mechanism:?}");
    }
    let certificate =
        Tls { certificate: Some(file(var("KAFKA_CLIENT_CERT"))), key: Some(file(var("KAFKA_CLIENT_KEY"))), ..tls() };
    let spec = secured(&rig, "KAFKA_TLS_BROKERS", Security { tls: Some(certificate), sasl: None });
    rig.start(&spec);
    assert_eq!(rig.until_filled().len(), 1);
}

/// Adds or removes the right of the user "blind" to do `operation` on `topic`.
fn acl(change: &str, operation: &str, topic: &str) {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/kafka/tool");
    let mut args = vec!["acls", change, "--allow-principal", "User:blind", "--operation", operation, "--topic", topic];
    if change == "--remove" {
        args.push("--force");
    }
    assert!(std::process::Command::new(tool).args(args).status().unwrap().success());
}

#[test]
#[ignore = "needs a real Kafka"]
fn serves_the_topics_it_may_read_and_names_the_one_it_may_not() {
    let dir = tempfile::tempdir().unwrap();
    let (mut rig, hidden) = (Rig::new("open", 1), Rig::new("hidden", 1));
    rig.send(0, numbers(0..2));
    hidden.send(0, numbers(0..3));
    for topic in [&rig.topic, &hidden.topic] {
        acl("--add", "Describe", topic);
    }
    acl("--add", "Read", &rig.topic);
    let blind = sasl(&dir, SaslMechanism::ScramSha256, "blind", &var("KAFKA_PASSWORD"));
    let mut spec = secured(&rig, "KAFKA_SASL_BROKERS", Security { tls: Some(tls()), sasl: Some(blind) });
    spec.topics.push(Topic::named(&hidden.topic, "hidden.{key}"));
    rig.start(&spec);
    assert_eq!(rig.until_filled().len(), 2);
    let refusal = format!("no right to read topic {}; grant this user READ on it", hidden.topic);
    rig.wait_for("named", |status| status.status == KafkaStatus::Connected && has(status, &refusal));

    acl("--add", "Read", &hidden.topic);
    let (records, begun) = rig.read(3);
    assert_eq!(records.iter().map(|(_, offset, _)| *offset).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(matches!(begun[..], [(_, 0, true)]), "{begun:?}");
    rig.wait_for("over", |status| status.error.is_none());

    // A right that is taken back later is named too.
    acl("--remove", "Read", &hidden.topic);
    rig.wait_for("named again", |status| has(status, &refusal));
}

#[test]
#[ignore = "needs a real Kafka"]
fn says_what_is_wrong_with_a_login() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::new("refused", 1);
    let scram = SaslMechanism::ScramSha256;
    let wrong = Security { tls: Some(tls()), sasl: Some(sasl(&dir, scram, &var("KAFKA_USER"), "wrong")) };
    let spec = secured(&rig, "KAFKA_SASL_BROKERS", wrong);
    rig.start(&spec);
    rig.wait_for("wrong password", |status| has(status, "Authentication failed"));
    assert_eq!(rig.status().status, KafkaStatus::Disconnected);

    let blind = Security { tls: Some(tls()), sasl: Some(sasl(&dir, scram, "blind", &var("KAFKA_PASSWORD"))) };
    let spec = secured(&rig, "KAFKA_SASL_BROKERS", blind);
    rig.start(&spec);
    rig.wait_for("no right", |status| has(status, "no right to topic"));

    let spec = secured(&rig, "KAFKA_EXPIRED_BROKERS", Security { tls: Some(tls()), sasl: None });
    rig.start(&spec);
    rig.wait_for("expired certificate", |status| has(status, "certificate is out of date"));
}
