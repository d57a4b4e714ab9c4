from .coco import coco_annotations as coco_annotations
from .detections import detections as detections
from .polygons import geojson as geojson, labelme as labelme, yolo_segments as yolo_segments
from .tables import regions_csv as regions_csv, regions_json as regions_json
