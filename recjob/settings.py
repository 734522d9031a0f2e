"""Every knob, one frozen model per stage.

Sources, the later wins: defaults, the TOML file, environment variables. A variable is `RECJOB_`,
the section, two underscores and the key: `RECJOB_TEACHER__EPOCHS=3`. `RECJOB_HOME` names the
folder that holds everything; `RECJOB_DATABASE_URL` a Postgres server instead of the embedded one.
"""

from __future__ import annotations

import os
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from recjob.errors import SettingsError, one_line

ModelSize = Literal["xs", "s", "m", "large"]
NegativesKind = Literal["random", "hard", "half"]
"""Random outfits, other users' positives (Sec. 4.4), or half and half."""
Augmentation = Literal["identity", "erase", "replace"]
LONGEST_DAYS: Final = 36_500
"""A hundred years, for "always"; with much more the calendar would begin before its year 1."""
LONGEST_HOURS: Final = LONGEST_DAYS * 24
"""Likewise."""


class Section(BaseModel):
    """A part of the settings: frozen, all numbers finite, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CatalogSettings(Section):
    """What an import accepts."""

    categories: tuple[str, ...] = ()
    """Allowed categories; empty: any category is welcome."""
    max_items_per_outfit: int = Field(16, ge=1)
    """An outfit with more items is refused as a mistake in the data."""


class ImageSettings(Section):
    """How pictures are decoded and kept."""

    size: int = Field(224, ge=64, le=1024)
    """Side in pixels of the white square that a picture is padded to (224: AlexNet's)."""
    max_pixels: int = Field(64_000_000, ge=1)
    """A picture with more pixels is refused before it is decoded (decompression bombs)."""
    max_bytes: int = Field(64 * 2**20, ge=1)
    """A larger picture file is refused."""
    workers: int = Field(0, ge=0)
    """Decoding threads; 0: one per core."""


class SplitSettings(Section):
    """Which positives train, validate and test (Sec. 4.1.1: 9:2:2, validation halved)."""

    kind: Literal["auto", "hash", "files", "item-disjoint", "time"] = "auto"
    """auto: as the data say (column `part`), and by hash where they say nothing; hash: by a keyed
    hash of user and item set, so that a growing catalog moves nothing; files: as the data say, and
    what they say nothing of trains; item-disjoint: no item of a user's test outfits among that
    user's training items, as far as the data allow; time: each user's newest outfits test."""
    key: str = "recjob"
    """Key of the hash that assigns a positive to its part."""
    train: int = Field(9, ge=1)
    """Share of the positives that train."""
    validation: int = Field(2, ge=0)
    """Share that stops the training: half for the teacher, half for the student."""
    test: int = Field(2, ge=0)
    """Share that is kept for the evaluation."""


class TrainingSettings(Section):
    """What every recipe has."""

    epochs: int = Field(40, ge=1)
    """Most passes over the training positives."""
    batch_size: int = Field(32, ge=2)
    """Positives per step (Sec. 4.1.4: 32)."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW with a one-cycle rate, or the paper's SGD with momentum and a plateau schedule."""
    learning_rate: float = Field(5e-4, gt=0)
    """Peak of the one-cycle rate, or where the plateau schedule starts."""
    user_rate_factor: float = Field(5.0, gt=0)
    """The user vectors learn at this multiple of the rate."""
    weight_decay: float = Field(1e-2, ge=0)
    """Of the weights; with AdamW biases, norms and user vectors have none."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of SGD."""
    warmup: float = Field(0.1, gt=0, lt=1)
    """Share of the steps in which the one-cycle rate rises."""
    plateau_factor: float = Field(0.5, gt=0, lt=1)
    """With SGD: the rate is multiplied by this on a plateau."""
    plateau_patience: int = Field(10, ge=1)
    """With SGD: epochs without a better validation AUC that make a plateau."""
    clip_norm: float = Field(1.0, gt=0)
    """Longer gradients are scaled to this norm."""
    temperature: float = Field(0.1, gt=0)
    """tau_FND of Eq. 10 and 13."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """In the fully connected layers of the trunk (AlexNet's)."""
    backbone: str = "alexnet"
    """"alexnet" in the paper's sizes, or any classification model of torchvision (resnet50,
    convnext_tiny, vit_b_16), for which `size` has no meaning."""
    weights: str = "imagenet"
    """Start of the trunk: "imagenet", "autoencoder", "none", or a file (.safetensors, .pth)."""
    freeze_backbone: bool = False
    """The trunk stays as it starts, its features are computed once, and the rest trains on them:
    minutes instead of hours."""
    compile: bool = False
    """The trunk is compiled by torch.compile: for long runs on GPUs; on a CPU it gains nothing."""
    prefetch: int = Field(2, ge=0)
    """Batches drawn and gathered ahead by a thread of their own; 0: none."""
    checkpoint_minutes: float = Field(10.0, ge=0)
    """A killed training goes on from a state saved this often; 0: none is saved."""
    flip: bool = True
    """Random horizontal flips."""
    patience: int = Field(20, ge=1)
    """Stop after so many epochs without a better validation AUC."""
    negatives_per_positive: int = Field(1, ge=1)
    """Random outfits drawn per positive; the batch shares them all (Eq. 10)."""
    negative_mixes: int = Field(1, ge=1)
    """Sets of negatives made of the drawn items: the draw itself, and recombinations of its items
    per category. More negatives per pair, and no more pictures to encode."""
    hard_share: float = Field(0.0, ge=0, le=1)
    """Share of the negatives that are positives of other users (Sec. 4.4 uses a half)."""


class TeacherSettings(TrainingSettings):
    """The large model, trained with the N-pair loss (Eq. 10)."""

    size: ModelSize = "large"
    """Size of the model (Table 5)."""
    image_size: int = Field(0, ge=0, le=1024)
    """Side in pixels of the pictures that the teacher sees; 0: `images.size`, like the student."""


class StudentSettings(TrainingSettings):
    """The compact model, trained with FND-CL (Eq. 19)."""

    size: ModelSize = "xs"
    """Size of the model (Table 5)."""
    loss: Literal["fnd", "n-pair", "bpr"] = "fnd"
    """FND (Eq. 13), or N-pair (Eq. 10) and BPR for comparison."""
    alpha: float = Field(1.25, gt=0)
    """Eq. 12 in the units of the teacher's scores; used where `alpha_relative` is 0."""
    alpha_relative: float = Field(1.0, ge=0)
    """Eq. 12 in units of the teacher's mean gap between positives and random outfits."""
    alpha_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How alpha goes from `alpha_start` times its value to its value over the training."""
    alpha_start: float = Field(1.0, gt=0)
    """Factor on alpha at the first step; without a schedule it has no meaning."""
    contrastive: Literal["views", "users"] = "views"
    """What the contrastive loss pulls together: two views of one outfit (Eq. 17), or all outfits
    of one user (supervised, each user a class: the future work of Sec. 5)."""
    contrastive_weight: float = Field(0.2, ge=0)
    """lambda of Eq. 19; 0 leaves the contrastive loss out."""
    contrastive_temperature: float = Field(0.1, gt=0)
    """tau_CL of Eq. 17."""
    augmentations: tuple[Augmentation, Augmentation] = ("erase", "replace")
    """The two views of the contrastive loss (Sec. 3.3.2)."""
    replace_neighbours: int = Field(10, ge=1)
    """Replace draws from so many visually nearest items of the same category."""


class AutoencoderSettings(Section):
    """The convolutional autoencoder behind *replace* (Sec. 3.3.2)."""

    epochs: int = Field(20, ge=1)
    """Passes over the items."""
    batch_size: int = Field(64, ge=2)
    """Pictures per step."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak of the one-cycle rate."""
    image_size: int = Field(64, ge=64)
    """Side in pixels that it sees."""
    latent_dim: int = Field(128, ge=2)
    """Length of the code in which items are compared."""
    warmup: float = Field(0.1, gt=0, lt=1)
    """Share of the steps in which the rate rises."""
    chroma_weight: float = Field(4.0, ge=0)
    """Weight of the error of colour differences beside that of the pixels."""
    clip_norm: float = Field(1.0, gt=0)
    """Longer gradients are scaled to this norm."""
    checkpoint_minutes: float = Field(10.0, ge=0)
    """A killed training goes on from a state saved this often; 0: none is saved."""


class UserSettings(Section):
    """Who gets a vector of their own."""

    min_training_positives: int = Field(5, ge=1)
    """Users with fewer get none and are served as cold starters."""


class CompileSettings(Section):
    """Export and engines."""

    opset: int = Field(18, ge=18)
    """ONNX operator set of the export."""
    max_batch: int = Field(512, ge=1)
    """Largest batch of the TensorRT optimisation profile."""
    optimal_batch: int = Field(128, ge=1)
    """The batch that TensorRT tunes for."""
    max_items: int = Field(16, ge=1)
    """Most items per outfit that an engine takes."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """Of the engine; fp16 exports the half model."""
    targets: tuple[str, ...] = ("sm89",)
    """Compute capabilities to build for where no GPU is present (tensorrt_rtx)."""
    tolerance: float = Field(1e-3, gt=0)
    """Largest difference of a cosine between torch and ONNX Runtime."""


class EmbedSettings(Section):
    """From pixels to vectors."""

    batch_size: int = Field(256, ge=1)
    """Items or outfits at a time."""
    engine: Literal["auto", "tensorrt", "torch"] = "auto"
    """auto: TensorRT where a GPU and an engine for it are there, else torch."""


class ColdStartSettings(Section):
    """How newcomers without a vector are served (Sec. 3.5)."""

    strategy: Literal["w-avg", "avg"] = "w-avg"
    """Neighbours weighted by their nearness (Eq. 22 to 24), or all alike."""
    threshold: float = 0.0
    """delta of Eq. 21."""
    temperature: float = Field(0.2, gt=0)
    """tau_w-avg of Eq. 23."""


class IndexSettings(Section):
    """The FAISS index of the outfits, and whether the night searches it or scans everything."""

    kind: Literal["flat", "ivf", "hnsw"] = "flat"
    """flat is exact; ivf and hnsw look at a part of the outfits, for sets too large to scan."""
    recall_floor: float = Field(0.95, ge=0, le=1)
    """`embed` refuses an index that finds a smaller share of the exact best (exit code 4)."""
    recall_queries: int = Field(256, ge=1)
    """Users whose exact lists the recall is measured with."""
    lists: int = Field(0, ge=0)
    """ivf: cells that the outfits are put into; 0: four times the square root of their number."""
    probes: int = Field(32, ge=1)
    """ivf: cells that a query looks into."""
    links: int = Field(32, ge=2)
    """hnsw: neighbours of an outfit in the graph."""
    build_effort: int = Field(200, ge=1)
    """hnsw: candidates looked at for each outfit when the graph is built (efConstruction)."""
    search_effort: int = Field(256, ge=1)
    """hnsw: candidates looked at by a query (efSearch)."""


class RuleSettings(Section):
    """What a list may hold."""

    exclude_seen: bool = True
    """A user's own positives are not recommended."""
    exclude_recent_nights: int = Field(0, ge=0)
    """What the last so many published runs showed a user is not recommended again."""
    required_categories: tuple[str, ...] = ()
    """An outfit must have an item of each of these categories."""
    forbidden_categories: tuple[str, ...] = ()
    """An outfit must have no item of these categories."""
    required_attributes: tuple[str, ...] = ()
    """"name=value": an outfit must have, for each of these, an item with that attribute."""
    forbidden_attributes: tuple[str, ...] = ()
    """"name=value": an outfit must have no item with one of these attributes."""
    max_outfits_per_item: int = Field(0, ge=0)
    """Most outfits of one list that share an item; 0: no limit."""
    max_per_category_pattern: int = Field(0, ge=0)
    """Most outfits of one list with the same categories (top, bottom, shoes); 0: no limit."""

    @field_validator("required_attributes", "forbidden_attributes")
    @classmethod
    def _have_name_and_value(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            name, _, value = text.partition("=")
            if not (name and value):
                raise PydanticCustomError(
                    "attribute", "{text} must be written name=value", {"text": repr(text)}
                )
        return texts


class VarietySettings(Section):
    """Variety by maximal marginal relevance (MMR) over outfit vectors."""

    strength: float = Field(0.0, ge=0, le=1)
    """0: off, the best scores as they are; 1: nothing but variety after the first outfit."""
    pool: int = Field(100, ge=1)
    """Lists are chosen from so many best outfits of each user."""


class MixSettings(Section):
    """New outfits, combined from available items after the patterns of the catalog's outfits."""

    budget: int = Field(0, ge=0)
    """New outfits per night; 0: none."""
    draws_per_kept: int = Field(10, ge=1)
    """So many combinations are drawn for each one that is kept."""
    neighbourhoods: int = Field(64, ge=1)
    """Groups of users with like taste, each of which keeps what it scores highest."""


class LimitSettings(Section):
    """A run beyond a limit is written but not shown (exit code 4)."""

    max_user_loss: float = Field(0.05, ge=0, le=1)
    """Largest share of the last run's lists that may be missing."""
    max_coverage_loss: float = Field(0.5, ge=0, le=1)
    """Largest loss, relative to the last run, of the share of candidates that are in a list."""
    max_score_shift: float = Field(0.25, gt=0)
    """Largest population stability index between the scores of the two runs (above 0.25 a
    distribution counts as changed). Not asked where another model scored the last run."""


class NightlySettings(Section):
    """The nightly run."""

    k: int = Field(20, ge=1)
    """Length of every list that readers see."""
    spare: int = Field(10, ge=0)
    """Further outfits stored with each list, to move up when an item sells out."""
    search: Literal["exact", "index"] = "exact"
    """exact: every candidate is scored; index: candidates come from the index of [index]."""
    engine: Literal["local", "ray"] = "local"
    """Where shards are embedded and scored: in this process, or by Ray on many machines."""
    shard_users: int = Field(8192, ge=1)
    """Users scored at a time; a killed run goes on after its last finished shard."""
    shard_items: int = Field(4096, ge=1)
    """Items or outfits embedded at a time, likewise (rounded up to whole batches)."""
    stop_seconds: float = Field(8.0, ge=0)
    """After SIGTERM a shard may take so long to its end; then it is given up."""
    continue_hours: float = Field(12.0, ge=0, le=LONGEST_HOURS)
    """A night that was cut short is continued so long after its start; later a new one begins."""
    stranger_relevance: float = Field(0.7, ge=0, le=1)
    """Strangers' popular list by MMR: 1 is pure popularity, 0 pure variety."""
    stranger_pool: int = Field(500, ge=1)
    """The most popular outfits that the strangers' list is chosen from."""
    keep_runs: int = Field(7, ge=2)
    """Runs kept for rollback; the published one and the one before it always are, and as many as
    `rules.exclude_recent_nights` asks for."""
    database_wait_seconds: float = Field(60.0, ge=0)
    """How long a run that has its lists waits for a database that is away before it gives up."""


class RaySettings(Section):
    """The Ray cluster of `nightly.engine = "ray"` (extra `recjob[ray]`)."""

    address: str = ""
    """"auto" or "HOST:PORT"; empty: a cluster of this machine's cores."""
    cpus_per_shard: float = Field(1.0, gt=0)
    """CPUs that Ray reserves for a shard; torch uses `compute.threads` of them, as it does
    here."""
    gpus_per_shard: float = Field(0.0, ge=0)
    """GPUs that Ray reserves for a shard."""
    shards_ahead: int = Field(64, ge=1)
    """Shards whose inputs lie in the shared storage at a time; those of 4096 pictures of 224
    pixels take 620 MB each."""


class EvaluationSettings(Section):
    """The evaluation protocol (Sec. 4.1)."""

    negatives_per_positive: int = Field(10, ge=1)
    """Random outfits per test positive."""
    cold_start_outfits: tuple[int, ...] = (1, 5)
    """Known outfits per newcomer for which cold start is measured."""
    cold_start_draws: int = Field(10, ge=1)
    """Random choices of those outfits, averaged."""
    max_validation_positives: int = Field(0, ge=0)
    """Positives used when validating during training; 0: all."""
    negatives: NegativesKind = "random"
    """Of the evaluation lists, and of those that choose the best epoch of a training: random
    outfits, other users' positives (Sec. 4.4), or half and half."""
    k: int = Field(20, ge=1)
    """Length of the lists whose recall, coverage, novelty and diversity are measured."""
    bootstrap_draws: int = Field(1000, ge=0)
    """Resamplings of the users behind every confidence interval; 0: no intervals."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Share of the resamplings that an interval holds."""
    group_borders: tuple[int, ...] = (20, 50, 100)
    """Users are grouped by their number of training positives at these borders."""


class PaperSettings(Section):
    """The paper's tables and figures (`paper`)."""

    repeats: int = Field(3, ge=1)
    """Runs of each row of Tables 2 to 4, with seeds `seed`, `seed` + 1 and so on."""
    teacher_repeats: int = Field(0, ge=0)
    """Different teachers that the repeats take in turn; 0: one for each repeat. With 1 the
    deviations tell nothing of the teacher's chance."""
    figure_repeats: int = Field(1, ge=1)
    """Runs of each point of Fig. 4 to 7."""
    alphas: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
    """Fig. 4: alpha in units of the teacher's gap (`student.alpha_relative`)."""
    sizes: tuple[ModelSize, ...] = ("xs", "s", "m")
    """Fig. 6 and Table 5: sizes of the student."""
    batch_sizes: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Fig. 7; the learning rate is scaled along (Sec. 4.8)."""
    timing_repeats: int = Field(10, ge=1)
    """Table 5: runs of each timing."""
    neighbours: int = Field(15, ge=1)
    """Fig. 8: negatives nearest to each user that are drawn beside random ones."""
    figure8_users: int = Field(3, ge=1)
    """Fig. 8: users shown."""
    figure8_outfits: int = Field(40, ge=1)
    """Fig. 8: positives, and as many negatives, of each user."""
    table4_freeze: bool = False
    """Table 4's methods train on frozen features (`freeze_backbone`), and the table says so."""
    figures_freeze: bool = False
    """Likewise the points of Fig. 4 to 7."""


class ScheduleSettings(Section):
    """When `schedule` runs each job. An empty cron expression: never."""

    timezone: str = "UTC"
    """Zone of the cron expressions, by its IANA name (Europe/Berlin)."""
    import_folder: str = ""
    """Folder of the shop's export in the import format; empty: nothing is imported."""
    import_snapshot: bool = True
    """The export is all that the shop has: what is absent becomes unavailable."""
    import_cron: str = "0 1 * * *"
    """Minute, hour, day of the month, month, day of the week (mon to sun): `import tables`. Where
    both days are given both must hold. Every time on the clock comes once, also on a day when the
    clock is changed."""
    autoencoder_cron: str = "0 4 1 * *"
    """`train-autoencoder`."""
    teacher_cron: str = "30 4 1 * *"
    """`train-teacher`, after the autoencoder."""
    student_cron: str = "0 5 * * sun"
    """`distill`, `compile` and `gate`, after the teacher."""
    embed_cron: str = "30 1 * * *"
    """`embed`, after the import."""
    nightly_cron: str = "0 2 * * *"
    """`nightly-recommend`, after `embed`."""
    retention_cron: str = "0 12 * * sun"
    """`retention`."""
    import_hours: float = Field(2.0, gt=0)
    """Longest time of a job of this kind; then it gets SIGTERM, and later SIGKILL."""
    autoencoder_hours: float = Field(12.0, gt=0)
    """Likewise."""
    teacher_hours: float = Field(72.0, gt=0)
    """Likewise."""
    student_hours: float = Field(24.0, gt=0)
    """Likewise, of its three commands together."""
    embed_hours: float = Field(6.0, gt=0)
    """Likewise."""
    nightly_hours: float = Field(6.0, gt=0)
    """Likewise."""
    retention_hours: float = Field(1.0, gt=0)
    """Likewise."""
    kill_seconds: float = Field(30.0, gt=0)
    """From SIGTERM to SIGKILL, for a job and its own processes."""
    retries: int = Field(3, ge=0)
    """Further attempts after a fault that a retry may mend: exit codes 1 and 5, a kill, and 2 of an
    import, whose export may be late. A job that is locked out (3) is tried for `wait_hours`."""
    backoff_seconds: float = Field(60.0, ge=0)
    """Pause before the first retry."""
    backoff_factor: float = Field(4.0, ge=1)
    """Each further pause is so many times as long."""
    wait_hours: float = Field(12.0, ge=0, le=LONGEST_HOURS)
    """How long a job waits for those before it, counted from its own time or from their beginning,
    whichever is later; then it is skipped. So long a lock is waited for, too."""
    stale_catalog: bool = True
    """Nights go on with the catalog as it is where the import failed; false: they are skipped."""
    catch_up_hours: float = Field(168.0, ge=0, le=LONGEST_HOURS)
    """A run that was missed is made up for, once, up to so long after its time."""
    standby_seconds: float = Field(5.0, gt=0)
    """How often a second scheduler looks whether the first is still there."""


class RetrainingSettings(Section):
    """When the data have changed enough to train anew (`--if-changed`, and `schedule`)."""

    min_change: float = Field(0.01, ge=0)
    """A training is skipped where a smaller share of what it learns from is new since the model
    in use was trained: interactions, and items for the autoencoder."""
    early_change: float = Field(0.1, gt=0)
    """`schedule` distils ahead of its time where such a share of the interactions is new."""


class SnapshotSettings(Section):
    """What `import --snapshot` takes for the whole of a shop."""

    max_item_loss: float = Field(0.2, ge=0, le=1)
    """An export that would make a larger share of the available items unavailable is refused."""
    max_outfit_loss: float = Field(0.2, ge=0, le=1)
    """Likewise of the outfits."""


class GateSettings(Section):
    """What a new student must show beside the active one before it becomes active."""

    max_auc_loss: float = Field(0.01, ge=0)
    """The lower end of the interval of the paired AUC difference must not lie below minus this."""
    min_popularity_lead: float = Field(0.0, ge=-1)
    """The lower end of the interval of the lead over popularity (of AUC) must lie above this."""
    max_cold_start_loss: float = Field(0.02, ge=0)
    """Largest loss of the newcomers' AUC, where there are newcomers to measure it with."""
    max_coverage_loss: float = Field(0.5, ge=0, le=1)
    """Largest loss, relative to the active student, of the share of outfits in a list."""
    max_agreement_loss: float = Field(0.1, ge=0)
    """Largest loss of the rank correlation with the student's own teacher (Spearman's, the mean
    over users)."""
    max_latency_factor: float = Field(1.5, ge=1)
    """Embedding must not take more than so many times as long as with the active student."""
    latency_batches: int = Field(5, ge=1)
    """Batches of pictures that the latency is measured with, in turn with the active student's."""


class MetricsSettings(Section):
    """Where the figures for Prometheus go: to one place, so that nothing is counted twice."""

    sink: Literal["scheduler", "textfile", "pushgateway", "none"] = "scheduler"
    """scheduler: `/metrics` of `schedule`, for jobs that cron started too; textfile: a file for
    node_exporter, pushgateway: pushed; after each job, and regularly by `schedule`."""
    host: str = "127.0.0.1"
    """Address that the scheduler's `/metrics` listens on; 0.0.0.0: on all."""
    port: int = Field(9464, ge=0, le=65535)
    """Port of `/metrics`; 0: any free one, which the log names."""
    textfile_folder: str = ""
    """Folder that node_exporter's textfile collector reads; empty: `<home>/metrics`."""
    pushgateway: str = "http://127.0.0.1:9091"
    """URL of the Pushgateway; a password in it is a secret, so set it in the environment."""
    pushgateway_seconds: float = Field(10.0, gt=0)
    """Longest wait for the Pushgateway."""
    latency_buckets: tuple[float, ...] = (
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
        5.0,
        10.0,
        30.0,
        60.0,
    )
    """Upper ends in seconds of the histograms of batch latencies, ascending."""

    @field_validator("latency_buckets")
    @classmethod
    def _ascend(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        above = bool(edges) and edges[0] > 0
        if not (above and all(low < high for low, high in pairwise(edges))):
            raise PydanticCustomError(
                "buckets", "must be numbers above 0, each greater than the one before"
            )
        return edges


class RetentionSettings(Section):
    """What `retention` keeps."""

    ledger_days: int = Field(400, ge=1, le=LONGEST_DAYS)
    """Runs older than this leave the ledger; what they counted stays in the totals."""
    retired_models: int = Field(3, ge=1)
    """Retired models of each role whose files are kept, for a rollback."""
    candidate_days: int = Field(30, ge=1, le=LONGEST_DAYS)
    """Candidates that never became active are removed after so long."""
    log_days: int = Field(30, ge=1, le=LONGEST_DAYS)
    """Logs of scheduled jobs."""


class StatusSettings(Section):
    """What `status` and `doctor` find fault with."""

    stale_hours: float = Field(26.0, gt=0)
    """`status` ends with exit code 6 where the published run is older, or there is none."""
    min_free_gigabytes: float = Field(5.0, ge=0)
    """`doctor` finds fault with less room on the disk of the home folder."""
    max_clock_seconds: float = Field(30.0, gt=0)
    """`doctor` finds fault where the clocks of this machine and the database differ more."""


class LoggingSettings(Section):
    """Logs, on standard error."""

    format: Literal["text", "json"] = "text"
    """json: one object a line, with run id, job and stage."""
    level: Literal["debug", "info", "warning", "error"] = "warning"
    """What is logged, and all that is graver; of libraries info only with debug."""


class DemoSettings(Section):
    """The drawn catalog."""

    items: int = Field(800, ge=60)
    """Garments that are drawn."""
    users: int = Field(120, ge=4)
    """Users with a hidden taste."""
    cold_starters: int = Field(12, ge=0)
    """Newcomers with one to four outfits."""
    strangers: int = Field(4, ge=0)
    """Users of whom nothing is known."""
    outfits_per_user: int = Field(60, ge=8)
    """Liked outfits of each user."""
    image_size: int = Field(160, ge=64)
    """Side in pixels of a drawn picture; the models see it at `images.size`."""
    two_tops: float = Field(0.3, ge=0, le=1)
    """Share of the outfits with two tops."""


class ReportSettings(Section):
    """The page people look at."""

    users_per_kind: int = Field(4, ge=1)
    """Warm users, cold starters and strangers shown."""
    outfits_per_user: int = Field(6, ge=1)
    """Liked and recommended outfits shown of each."""


class ComputeSettings(Section):
    """Where and in what precision the models run."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where it is."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on GPUs and on CPUs that multiply it in hardware, else fp32."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0: torch's choice."""


class Settings(Section):
    """Everything."""

    home: Path = Path("var")
    """Folder of the embedded database, the packed pictures and the artifacts."""
    artifacts_url: str = ""
    """Where models and vectors are shared with other machines: any URL of fsspec (s3://...);
    empty: only the folder `artifacts` under `home`."""
    database_url: SecretStr | None = None
    """A server (a secret: only from the environment); none: the embedded one under `home`."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Start of everything random; the same seed and data give the same result."""
    compute: ComputeSettings = ComputeSettings()
    catalog: CatalogSettings = CatalogSettings()
    images: ImageSettings = ImageSettings()
    split: SplitSettings = SplitSettings()
    users: UserSettings = UserSettings()
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    teacher: TeacherSettings = TeacherSettings()
    student: StudentSettings = StudentSettings()
    compile: CompileSettings = CompileSettings()
    embed: EmbedSettings = EmbedSettings()
    cold_start: ColdStartSettings = ColdStartSettings()
    index: IndexSettings = IndexSettings()
    rules: RuleSettings = RuleSettings()
    variety: VarietySettings = VarietySettings()
    mixes: MixSettings = MixSettings()
    limits: LimitSettings = LimitSettings()
    nightly: NightlySettings = NightlySettings()
    ray: RaySettings = RaySettings()
    schedule: ScheduleSettings = ScheduleSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    snapshot: SnapshotSettings = SnapshotSettings()
    gate: GateSettings = GateSettings()
    metrics: MetricsSettings = MetricsSettings()
    retention: RetentionSettings = RetentionSettings()
    status: StatusSettings = StatusSettings()
    logging: LoggingSettings = LoggingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    paper: PaperSettings = PaperSettings()
    report: ReportSettings = ReportSettings()
    demo: DemoSettings = DemoSettings()


ENVIRONMENT_PREFIX = "RECJOB_"
DEFAULT_FILE = Path("recjob.toml")
UNKNOWN_KEY = "unknown key; see docs/settings.md for every key"


def load_settings(file: Path | None = None, environment: dict[str, str] | None = None) -> Settings:
    """Settings from `file` (default: recjob.toml where it exists) and the environment.

    Raises SettingsError with the file or variable and the key that is wrong.
    """
    environment = dict(os.environ) if environment is None else environment
    values: dict[str, Any] = {}
    source = "settings"
    if file is None and DEFAULT_FILE.is_file():
        file = DEFAULT_FILE
    if file is not None:
        source = str(file)
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SettingsError(f"{file}: no such settings file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file}: cannot be read ({one_line(error)})") from None
        except (ValueError, RecursionError) as error:  # numbers and nests beyond Python's limits
            raise SettingsError(f"{file}: not valid TOML: {one_line(error)}") from None
        if "database_url" in values:
            raise SettingsError(
                f"{file}: database_url holds a secret; set RECJOB_DATABASE_URL in the environment"
            )
    names: dict[tuple[str, ...], str] = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        path = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        names[path] = name
        _put(values, path, text, name)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_first_line(error, source, names)) from None


def _put(values: dict[str, Any], path: tuple[str, ...], text: str, name: str) -> None:
    """Set the value at `path`, (key,) or (section, key), to that of the variable `name`."""
    name = one_line(name)
    fields = Settings.model_fields
    if path[0] not in fields:
        raise SettingsError(f"environment: {name} is no setting; see docs/settings.md")
    kind = fields[path[0]].annotation
    if isinstance(kind, type) and issubclass(kind, Section):
        if len(path) == 1:
            raise SettingsError(f"environment: {name} is a section; set its keys, {name}__KEY")
        fields = kind.model_fields
        values = values.setdefault(path[0], {})
    elif len(path) > 1:
        raise SettingsError(f"environment: {name}: {path[0]} is no section, and has no keys")
    key = "__".join(path[1:] or path)
    if key not in fields:
        raise SettingsError(f"environment: {name}: {UNKNOWN_KEY}")
    if isinstance(values, dict):  # else the file's mistake, which is told of later
        is_list = get_origin(fields[key].annotation) is tuple
        values[key] = (text.split(",") if text else []) if is_list else text


def _first_line(error: ValidationError, source: str, names: dict[tuple[str, ...], str]) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    path = tuple(str(part) for part in first["loc"])
    # A value of a list is one step below the variable that holds the list.
    variable = names.get(path) or names.get(path[:-1])
    place = one_line(variable or ".".join(path))
    where = f"environment: {place}" if variable else f"{source}: {place}"
    if first["type"] == "extra_forbidden":
        return f"{where}: {UNKNOWN_KEY}"
    if first["type"] == "missing":  # every key has a default, so only a list can lack something
        return f"{where}: the list is too short"
    return f"{where}: {one_line(first['msg'])}"
