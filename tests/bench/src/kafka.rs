//! The real Kafka that `tests/kafka` started around this process: its addresses, and control over its brokers.

use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::bail;
use crate::error::{Doing as _, Error, Result};

/// Time limit for a command. The slowest one, the start of a broker, takes 3 s on an idle machine.
const LIMIT: Duration = Duration::from_mins(2);

/// The running test brokers.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// Bootstrap addresses for the bench itself.
    pub brokers: String,
    /// The same brokers on other ports, for the processes under test.
    pub link: String,
    commands: PathBuf,
}

impl Kafka {
    /// The test brokers that the environment names.
    pub fn find() -> Result<Self> {
        let (Ok(brokers), Ok(link)) = (std::env::var("KAFKA_BROKERS"), std::env::var("KAFKA_LINK_BROKERS")) else {
            return Err(Error::Unusable(
                "KAFKA_BROKERS and KAFKA_LINK_BROKERS are not set: run this inside tests/kafka/run".to_owned(),
            ));
        };
        let commands = PathBuf::from("tests/kafka");
        if !commands.join("broker").is_file() {
            bail!("tests/kafka/broker is missing here: run this from the top of the repository");
        }
        Ok(Self { brokers, link, commands })
    }

    /// Number of brokers.
    pub fn count(&self) -> usize {
        self.brokers.split(',').count()
    }

    /// Applies `verb` to broker `number`, counted from 1, and waits until it is done.
    pub async fn broker(&self, number: usize, verb: &str) -> Result<()> {
        self.run("broker", &[&number.to_string(), verb]).await
    }

    /// Creates a topic with the default replication of the brokers.
    pub async fn create_topic(&self, name: &str, partitions: usize, settings: &[&str]) -> Result<()> {
        let partitions = partitions.to_string();
        let mut args = vec!["topics", "--create", "--topic", name, "--partitions", &partitions];
        args.extend(settings.iter().flat_map(|setting| ["--config", setting]));
        self.run("tool", &args).await
    }

    async fn run(&self, command: &str, args: &[&str]) -> Result<()> {
        let program = self.commands.join(command);
        let what = format!("run {} {}", program.display(), args.join(" "));
        let mut command = Command::new(&program);
        command.args(args).kill_on_drop(true);
        let Ok(output) = timeout(LIMIT, command.output()).await else { bail!("failed to {what} in {LIMIT:?}") };
        let output = output.doing(&what)?;
        if !output.status.success() {
            bail!("failed to {what}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}
