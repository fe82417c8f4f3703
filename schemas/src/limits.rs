//! The limits of the wire, each with its unit, checked where a message enters.

/// What a message may at most hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of any message; NATS itself refuses more than 1 MiB by default.
    pub message_bytes_max: usize,
    /// Bytes of a request to the api: what follows from it must still fit into a message.
    pub request_bytes_max: usize,
    /// Characters of an identifier.
    pub id_chars_max: usize,
    /// Bytes of a study file.
    pub study_bytes_max: usize,
    /// Configurations that a study tries before its sampler's.
    pub initial_max: usize,
    /// Results of earlier trials that a study begins with.
    pub earlier_max: usize,
    /// Bytes of the trials in one ask of an external sampler, with the results of earlier ones where it tells these too:
    /// they are no more than a request's, so that at least one trial fits beside them.
    pub ask_trials_bytes_max: usize,
    /// Points of one trial in an ask of an external sampler.
    pub ask_points_max: usize,
    /// Bytes of an external sampler's answer.
    pub suggestion_bytes_max: usize,
    /// Seconds that an external sampler may take for an answer; a server lets nobody answer after two minutes.
    pub suggestion_s_max: u32,
    /// Seconds between two reports of somebody who trains in a loop of their own.
    pub lease_s_max: u32,
    /// Objectives of a study beside the first.
    pub further_objectives_max: usize,
    /// Bounds that a study's trials must keep.
    pub constraints_max: usize,
    /// Parameters of a space.
    pub parameters_max: usize,
    /// Choices of a categorical or ordinal parameter.
    pub choices_max: usize,
    /// Trials of a study.
    pub trials_max: u32,
    /// Epochs of a trial.
    pub resource_max: u32,
    /// Points in one `measured` message.
    pub points_per_message_max: usize,
    /// Points of one trial that count.
    pub points_per_trial_max: usize,
    /// Metrics in one point.
    pub metrics_per_point_max: usize,
    /// Labels of a trial.
    pub labels_max: usize,
    /// Characters of a free text: a detail, a label, a line of output.
    pub text_chars_max: usize,
    /// Hidden layers of a model, or of one of its stages.
    pub layers_max: u32,
    /// Stages of a model, each of half the height and width of the one before.
    pub stages_max: u32,
    /// Units of a hidden layer, channels of a convolution, the width of a position or of an embedding.
    pub width_max: u32,
    /// Height and width of a kernel.
    pub kernel_max: u32,
    /// Height and width of a patch.
    pub patch_max: u32,
    /// Heads of an attention.
    pub heads_max: u32,
    /// How many times as wide as a position the hidden layer of a transformer's block is.
    pub ratio_max: u32,
    /// Rows of a training step.
    pub batch_size_max: u32,
    /// Bytes of one checkpoint.
    pub checkpoint_bytes_max: u64,
    /// Bytes of a coordinator's snapshot.
    pub snapshot_bytes_max: u64,
    /// Bytes of one data set in the object store.
    pub data_bytes_max: u64,
    /// Bytes of one ONNX model in the object store; protobuf itself ends at 2 GiB.
    pub model_bytes_max: u64,
    /// Numbers of one data set, as an agent holds it.
    pub data_values_max: u64,
    /// Axes of a row of features.
    pub axes_max: usize,
    /// Height and width of an image.
    pub image_side_max: u32,
    /// Positions of a row of tokens.
    pub positions_max: u32,
    /// Classes of a target.
    pub classes_max: usize,
    /// Different texts of a column of features; each becomes a feature.
    pub column_texts_max: usize,
    /// Categories of a column, or tokens of a vocabulary: each has a row of an embedding.
    pub vocabulary_max: usize,
    /// Components of an ablation.
    pub components_max: usize,
    /// Components of a factorial ablation, each of which doubles its trials.
    pub factors_max: usize,
    /// Repeats of an ablation.
    pub repeats_max: u32,
    /// Arguments of a command.
    pub arguments_max: usize,
    /// Files that a command is given.
    pub command_files_max: usize,
    /// Offers of one trial, lost leases and retries included.
    pub attempts_max: u32,
    /// Attempts in a row that were lost with their agents before the trial got any further: it may be what kills them.
    pub losses_max: u32,
}

/// The limits in force.
pub const LIMITS: Limits = Limits {
    message_bytes_max: 1024 * 1024,
    request_bytes_max: 384 * 1024,
    id_chars_max: 64,
    study_bytes_max: 256 * 1024,
    initial_max: 1_000,
    earlier_max: 1_000,
    ask_trials_bytes_max: 384 * 1024,
    ask_points_max: 64,
    suggestion_bytes_max: 64 * 1024,
    suggestion_s_max: 100,
    lease_s_max: 7 * 24 * 60 * 60,
    further_objectives_max: 3,
    constraints_max: 16,
    parameters_max: 256,
    choices_max: 1_024,
    trials_max: 1_000_000,
    resource_max: 1_000_000,
    points_per_message_max: 64,
    points_per_trial_max: 100_000,
    metrics_per_point_max: 64,
    labels_max: 32,
    text_chars_max: 4_096,
    layers_max: 128,
    stages_max: 16,
    width_max: 65_536,
    kernel_max: 63,
    patch_max: 1_024,
    heads_max: 1_024,
    ratio_max: 64,
    batch_size_max: 1_048_576,
    checkpoint_bytes_max: 8 * 1024 * 1024 * 1024,
    snapshot_bytes_max: 256 * 1024 * 1024,
    data_bytes_max: 64 * 1024 * 1024 * 1024,
    model_bytes_max: 2 * 1024 * 1024 * 1024 - 1,
    data_values_max: 1 << 31,
    axes_max: 6,
    image_side_max: 16_384,
    positions_max: 1 << 20,
    classes_max: 65_536,
    column_texts_max: 1_024,
    vocabulary_max: 1 << 20,
    components_max: 256,
    factors_max: 8,
    repeats_max: 1_000,
    arguments_max: 256,
    command_files_max: 64,
    attempts_max: 16,
    losses_max: 3,
};
