//! A lane on one thread of the CPU.

#[path = "library.rs"]
mod library;

use library::{device, library};
use regatta_agent::agent::Lane;
use regatta_agent::command::CommandSettings;
use regatta_agent::lane::{EngineSettings, LaneThread, Report};
use regatta_agent::runtime::CudaSettings;
use regatta_schemas::AgentId;
use tokio::sync::mpsc;

pub fn lane(reports: mpsc::Sender<(Lane, Report)>) -> LaneThread {
    let settings = EngineSettings {
        library: library(),
        device: device(),
        threads: 1,
        cuda: CudaSettings::default(),
        data_bytes_max: None,
        commands: CommandSettings::default(),
    };
    LaneThread::start(Lane(0), &AgentId::new("agent").unwrap(), &settings, reports).unwrap()
}
