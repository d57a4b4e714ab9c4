from .report import run_document as run_document, write_run as write_run
from .runner import EvaluationTask as EvaluationTask, Outcome as Outcome, run_task as run_task
from .tasks.segmentation import SegmentationTask as SegmentationTask
from .tasks.settings import SegmentationSettings as SegmentationSettings, settings_for as settings_for
