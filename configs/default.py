"""Every key there is, with its meaning. The other configs state only what differs.

`network`, `data`, `train` and `seed` say what a run is: two runs that agree in them are the same run. `run` and
`data.data_dir` say how it is carried out, and may change from one start to the next.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """ResNet-20 on CIFAR-10 by He et al. 2015: the base of every other config."""
    config = ConfigDict()
    config.seed = 0  # of initialisation, order and augmentation

    config.network = network = ConfigDict()
    network.block = 'basic'  # basic: conv-BN-ReLU-conv-BN, add, ReLU; preact: BN-ReLU-conv-BN-ReLU-conv, add
    network.depth = 20  # 6n+2: n blocks of two convolutions in each of three stages, stem and head
    network.widths = (16, 32, 64)  # filters of each stage
    network.shortcut = 'A'  # A: identity, zero-padded; B: projection where the shape changes; C: everywhere; none
    network.subsample = 'stride'  # of shortcut A: stride (every second pixel) or average (2x2 mean)
    network.zero_channels = 'split'  # of shortcut A: split (half before, half behind) or behind
    network.norm_momentum = 0.9  # of the running statistics: the share kept at each step
    network.norm_epsilon = 1e-5

    config.data = data = ConfigDict()
    data.dataset = 'cifar10'  # digits, cifar10, cifar100
    data.data_dir = ''  # TFDS directory; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets
    data.selection = 0  # training examples held out; whatever is chosen is chosen on these
    data.normalize = 'pixel_mean'  # pixel_mean: subtract each pixel's mean; channel: mean and deviation a channel
    data.shift = 4  # pixels of zero padding around a random crop of the image's own size
    data.flip = True  # left to right, one time in two

    config.train = train = ConfigDict()
    train.batch_size = 128
    train.momentum = 0.9
    train.nesterov = False
    train.weight_decay = 1e-4
    train.decay_norm_and_bias = True  # the papers decay every parameter
    train.schedule = schedule = ConfigDict()
    schedule.name = 'steps'  # steps: times `factor` at each boundary; cosine: to 0 at `steps`
    schedule.learning_rate = 0.1
    schedule.boundaries = (32_000, 48_000)
    schedule.factor = 0.1
    schedule.steps = 64_000  # where a cosine ends
    schedule.warmup = 'none'  # constant: `warmup_rate` for `warmup_steps`; linear: from 0 up to the rate
    schedule.warmup_steps = 0
    schedule.warmup_rate = 0.01

    config.run = run = ConfigDict()
    run.steps = 64_000  # how long it goes on
    run.log_every = 100  # steps between records of the training loss
    run.eval_every = 2_000  # steps between evaluations on the test split; 0: at the end only
    run.eval_batch = 500  # examples at once in evaluation and analysis; the result does not depend on it
    run.save_every = 2_000  # steps between checkpoints; the last step is always saved
    run.keep = 2  # newest checkpoints kept
    run.snapshots = (0,)  # steps kept for good
    run.scan_unroll = 1  # blocks a turn of the compiled loop over a stage's body
    run.tensorboard = True  # event files beside metrics.jsonl
    return config
