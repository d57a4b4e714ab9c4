from .coco import coco_annotations as coco_annotations
from .polygons import geojson as geojson, labelme as labelme, yolo_segments as yolo_segments
from .supervision_detections import detections as detections
from .tables import regions_csv as regions_csv, regions_json as regions_json
