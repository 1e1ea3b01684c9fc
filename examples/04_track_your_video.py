"""Track a target through your own two videos or folders: the loop behind `rgbt-fusion track`."""

import argparse

from rgbt_fusion import Tracker, create_model, load_model
from rgbt_fusion.tracking.ncc import NCCTracker
from rgbt_fusion.video.film import writing_video
from rgbt_fusion.video.result_picture import draw_result
from rgbt_fusion.video.sources import open_source

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("rgb")
parser.add_argument("tir")
parser.add_argument("box", type=float, nargs=4, metavar=("X", "Y", "W", "H"))
parser.add_argument("--weights", help="a file of this library, or 'pretrained'")
parser.add_argument("--out", default="tracked.mp4")
options = parser.parse_args()

if options.weights is None:
    tracker = NCCTracker()  # template matching, without a network
elif options.weights == "pretrained":
    tracker = Tracker(create_model("ainet_tiny_128", pretrained=True))
else:
    tracker = Tracker(load_model(options.weights))

source = open_source(options.rgb, options.tir)
with writing_video(options.out, fps=source.fps or 25) as video:
    for frame, result in zip(source, tracker.track(source, options.box), strict=True):
        print(result.frame, *result.box_xywh_px.round(1), f"{result.confidence:.2f}")
        video.write(draw_result(tracker, frame, result))
