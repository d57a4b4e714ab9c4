from .losses import hard_negative_loss as hard_negative_loss, pair_loss as pair_loss
from .options import TrainingOptions as TrainingOptions
from .records import (
    BadRecord as BadRecord,
    FileRecords as FileRecords,
    Record as Record,
    RegionText as RegionText,
    Source as Source,
)
from .scene_records import SceneRecords as SceneRecords, write_scene_records as write_scene_records
from .trainer import train as train
