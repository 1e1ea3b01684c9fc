"""From frames to boxes: the crop and the tracker."""
