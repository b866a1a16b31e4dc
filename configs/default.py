"""Every key there is, with its meaning. The other configs state only what differs.

`network`, `data`, `train` and `seed` say what a run is: two runs that agree in them are the same run. `run`,
`data.data_dir` and `data.corrupt` say how it is carried out, and may change from one start to the next.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """ResNet-20 on CIFAR-10 by He et al. 2015: the base of every other config."""
    config = ConfigDict()
    config.seed = 0  # of initialisation, order and augmentation; with train.seeds that of the first network
    config.unit = 'step'  # what the schedule's numbers, run.steps, run.eval_every, run.save_every and run.snapshots
    #                       count: step, or epoch, which the size of the training set turns into steps

    config.network = network = ConfigDict()
    network.stem = 'cifar'  # cifar: 3x3; imagenet: 7x7/2, max pool; three: three 3x3, max pool; deep: seven
    network.stem_width = 16  # filters
    network.stem_strides = (2, 2, 1, 1, 1, 1, 1)  # of the deep stem's convolutions
    network.block = 'basic'  # basic, bottleneck, downsampling, half_resolution, linear_projection, inception,
    #                          inception_resnet (A, B, C by stage), inception_resnet_a, …_b, …_c; the identity-mapping
    #                          block is basic with placement full_preactivation and shortcut identity
    network.stage_blocks = (3, 3, 3)  # blocks of each stage
    network.widths = (16, 32, 64)  # filters that each stage's blocks give
    network.mid_ratios = (1.0,)  # widths of a branch's convolutions but the last, as shares of what the block gives
    network.groups = 1  # of the 3x3 convolutions (ResNeXt)
    network.strided_conv = 1  # which convolution of an entry block strides: of a bottleneck 1 (v1) or 2 (v1.5)
    network.downsample = 'stride'  # stride, or max_pool: 2x2 before an entry block, which then has no strides (VGG)
    network.squeeze_excite = 0  # by how much squeeze-and-excitation reduces the channels; 0: there is none
    network.dropout = 0.0  # before the last convolution of a branch (wide residual networks)
    network.placement = 'original'  # of BN and ReLU, He et al. 2016 figure 4: original, bn_after_addition,
    #                                 relu_before_addition, relu_only_preactivation, full_preactivation
    network.shortcut = 'A'  # identity; A: identity, zero-padded; B: projection where the shape changes; C: everywhere;
    #                         conv: C without BN; exclusive_gating, shortcut_gating, dropout: on A; none
    network.subsample = 'stride'  # of a shortcut: stride (every second pixel) or average (2x2 mean; B: ResNet-D)
    network.zero_channels = 'split'  # of shortcut A: split (half before, half behind) or behind
    network.shortcut_scale = 1.0  # constant gain of the shortcut
    network.residual_scale = 1.0  # constant gain of the residual branch
    network.gate_bias = -6.0  # b_g of the two gatings: what the gate's bias starts at
    network.shortcut_dropout = 0.5  # of shortcut dropout
    network.join = 'add'  # add, or concatenate: [shortcut, residual] and a 1x1 convolution back to the width
    network.dense = 'after'  # of linear_projection: the dense layer after the two convolutions, or between them
    network.dense_join = 'product'  # of linear_projection: product or concatenate
    network.share = 'none'  # among the blocks of a stage's body: none, kernels, parameters (γ and β too), all
    network.survival = 1.0  # stochastic depth: the last block's probability of being kept, falling linearly from 1
    network.norm = 'batch'  # batch, group or none
    network.norm_groups = 32  # groups of channels of group normalisation
    network.norm_examples = 0  # examples that batch normalisation takes together in training; 0: the whole batch
    network.norm_momentum = 0.9  # of the running statistics: the share kept at each step
    network.norm_epsilon = 1e-5
    network.conv = 'plain'  # plain, standardized (weight standardisation) or scaled_standardized (NF-ResNet)
    network.gain = 'none'  # of the branch at the start: zero_gamma, skipinit, rezero, fixup or nf (NF-ResNet)
    network.nf_alpha = 0.2  # of gain nf: how much variance a block adds
    network.pool = 'average'  # of the head: average, max, both, or flatten (no pool)
    network.head_widths = ()  # of dense layers with ReLU before the last
    network.head_dropout = 0.0  # before the last dense layer, or behind each one before it

    config.data = data = ConfigDict()
    data.dataset = 'cifar10'  # digits, cifar10, cifar100, imagenet2012; the name of any other set in the TFDS directory
    #                          that has images and labels; folder: a folder of image files; synthetic: noise, to time
    data.data_dir = ''  # TFDS directory; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets. Of folder: that folder
    data.test_share = 0.2  # where there are no test images: the share of each class that is kept for testing
    data.pixels = 0  # side of the images that the network sees; 0: the dataset's own, 224 where they are of any size
    data.channels = 0  # of these images; 0: the dataset's own
    data.labels = 0  # outputs of the head; 0: the dataset's classes
    data.fingerprint = ''  # of a folder's files or a set's version, filled in when a run begins: what it was trained on
    data.selection = 0  # training examples held out; whatever is chosen is chosen on these
    data.classes = 0  # the first so many alone, in every split; the head keeps an output for each of all; 0: all
    data.examples = 0  # the first so many training examples alone, of those that are left; 0: all
    data.normalize = 'pixel_mean'  # pixel_mean: subtract each pixel's mean; channel: mean and deviation a channel;
    #                               imagenet: those of ImageNet's channels, as imported weights expect them
    data.crop_fraction = 1.0  # the evaluation view: the share of the shorter side that the crop at the centre takes
    data.crop = 'view'  # what training sees of an image: view (the evaluation view, then shift and flip),
    #                    random_resized (a box of random area and shape), random_scale (He 2015: a random square)
    data.crop_area = (0.08, 1.0)  # of random_resized: the box's share of the image
    data.crop_ratio = (0.75, 4 / 3)  # of random_resized: its width by its height
    data.crop_scale = (256, 480)  # of random_scale: the shorter side that the image is resized to
    data.decode = 'scaled'  # scaled: JPEGs are decoded at the size the crop needs; exact: whole, resized as Pillow does
    data.corrupt = 'stop'  # an image that cannot be read: stop, or skip (another stands in for it, and it is counted)
    data.repeats = 1  # times that each example of a batch is in it, each with draws of its own (repeated augmentation)
    data.shift = 4  # pixels of zero padding around a random crop of the image's own size
    data.flip = True  # left to right, one time in two
    data.jitter = (0.0, 0.0, 0.0, 0.0)  # of brightness, contrast, saturation: factors within 1 ± this; of hue: ± turns
    data.lighting = 0.0  # deviation of the noise along the colours' principal components (Krizhevsky 2012: 0.1)
    data.rand_augment = 0  # operations drawn for each image (RandAugment); 0: none
    data.rand_augment_magnitude = 0.3  # of their strongest form
    data.rand_augment_deviation = 0.0  # of a normal noise on the magnitude
    data.erase = 0.0  # probability of random erasing

    config.train = train = ConfigDict()
    train.seeds = 1  # networks that are trained in one program, of the seeds from `seed` on; each is a run in --run
    train.batch_size = 128
    train.phases = phases = ConfigDict()  # progressive training: phase after phase, the last one to the end
    phases.epochs = ()  # how many each takes; none: there are no phases
    phases.pixels = ()  # the images' side in each
    phases.batch_sizes = ()  # the batch in each
    train.microbatches = 1  # parts of a batch computed one after the other, their gradients summed; BN takes each apart
    train.compute = 'float32'  # of the network in training: float32 or bfloat16; parameters and BN stay float32
    train.optimizer = 'sgd'  # sgd, lars (You et al. 2017), lamb (You et al. 2020) or adamw (Loshchilov & Hutter 2019)
    train.momentum = 0.9  # of sgd and lars
    train.nesterov = False  # of sgd
    train.betas = (0.9, 0.999)  # of lamb and adamw
    train.epsilon = 1e-6  # of lamb and adamw
    train.trust = 0.001  # of lars: the trust coefficient
    train.clip_norm = 0.0  # largest norm of the gradient of all parameters; 0: any
    train.weight_decay = 1e-4
    train.undecayed = ()  # what does not decay: words of parameters' paths, as bias, scale, head; the papers decay all
    train.ema = 0.0  # share that an average of the variables keeps at each step; it is what is evaluated; 0: none
    train.loss = 'softmax'  # cross-entropy of the softmax, or sigmoid: of each class against the rest
    train.label_smoothing = 0.0  # share of the target that is spread over all classes
    train.mixup = 0.0  # alpha of the beta distribution of mixup's shares; 0: none
    train.cutmix = 0.0  # the same of cutmix; where both are asked for, each batch is mixed by one of them
    train.start_from = ''  # directory of a run whose newest checkpoint gives the variables at step 0 (fine-tuning)
    train.new_head = True  # of start_from: a fresh last dense layer; False: that run's, whose classes must agree
    train.active_blocks = 0  # blocks, drawn anew for each batch, that it passes through, the others deleted; 0: all
    train.frozen = ()  # parts that stay as they started, BN's statistics too: stem, stage1, …
    train.schedule = schedule = ConfigDict()
    schedule.name = 'steps'  # steps: times `factor` at each boundary; cosine: to 0 at `steps`
    schedule.learning_rate = 0.1
    schedule.scaling = 'none'  # of the rates, with train.batch_size: linear (Goyal et al. 2017), sqrt (Krizhevsky 2014)
    schedule.scaling_batch = 256  # the batch that they are written for
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
    run.keep_best = 0  # checkpoints kept beside them: of least error on the examples held out by data.selection
    run.snapshots = (0,)  # steps kept for good
    run.checkpoints = ''  # a folder, or gs://bucket/name (pip install gcsfs), for any number of runs; '': with the run
    run.unsaved = 'stop'  # a checkpoint that cannot be written: stop, or go_on (said each time; the old ones stay)
    run.nonfinite = 'stop'  # a loss or gradient that is not finite: stop, or skip that batch (the parameters stay)
    run.fsdp = 1  # devices that parameters, optimizer state and average are cut over; the others hold copies
    run.remat = 'none'  # what the backward pass computes again instead of keeping: none, block or stage
    run.scan_from = 5  # bodies of so many blocks train as one compiled loop, shorter ones block by block: faster steps
    run.placement = 'auto'  # of images: device (all of a split, on each), stream (decoded as they are needed), or auto:
    #                         on the device where they fit; the batches are the same, but where images are skipped.
    #                         Crops of the originals are always streamed
    run.workers = 0  # processes that decode a stream; 0: threads of this one, which scale to some ten cores
    run.tensorboard = True  # event files beside metrics.jsonl
    run.wandb = ''  # project of Weights & Biases that records are sent to (pip install wandb); empty: none
    return config
