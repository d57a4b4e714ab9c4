from . import (
    datasets as datasets,
    drawing as drawing,
    encoders as encoders,
    evaluation as evaluation,
    formats as formats,
    guides as guides,
    images as images,
    metrics as metrics,
    prompts as prompts,
    regions as regions,
    scenes as scenes,
    scoring as scoring,
    similarity as similarity,
    store as store,
    training as training,
    upsample as upsample,
)
from ._version import __version__ as __version__
from .encoders.base import Encoder as Encoder
from .errors import (
    BatchError as BatchError,
    DatasetError as DatasetError,
    DeviceError as DeviceError,
    DiskError as DiskError,
    FgsegError as FgsegError,
    ImageError as ImageError,
    ModelNotFoundError as ModelNotFoundError,
    OptionError as OptionError,
    OutputError as OutputError,
    PromptError as PromptError,
    ShapeError as ShapeError,
    StoreError as StoreError,
    TrainingError as TrainingError,
    UnknownWordError as UnknownWordError,
    WeightsError as WeightsError,
)
from .explorer import explore as explore
from .large.result import LargeSegmentation as LargeSegmentation
from .prompts.classes import PromptClass as PromptClass
from .prompts.files import read_class_file as read_class_file
from .scoring.resolution import Resolution as Resolution
from .segmentation.encoded_image import EncodedImage as EncodedImage
from .segmentation.heatmaps import Heatmaps as Heatmaps
from .segmentation.result import Segmentation as Segmentation
from .segmenter import Segmenter as Segmenter, load as load
from .store.batch import BatchReport as BatchReport, batch as batch
from .store.opening import open_store as open_store
from .types import (
    UNLABELLED as UNLABELLED,
    BoxScores as BoxScores,
    DenseFeatures as DenseFeatures,
    Ranking as Ranking,
    Region as Region,
)
