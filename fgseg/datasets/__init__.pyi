from .dataset import Dataset as Dataset, LabelledImage as LabelledImage
from .faults import preflight as preflight
from .opening import open_dataset as open_dataset
from .presets import PRESETS as PRESETS, Preset as Preset, preset as preset
from .scenes import SCENE_SETS as SCENE_SETS, open_scenes as open_scenes
from .standard_sets import STANDARD_SETS as STANDARD_SETS
