"""Track with an exported .onnx file: numpy, OpenCV and ONNX Runtime, without torch."""

import json
import sys

import cv2
import numpy as np
import onnxruntime

file, rgb_frames, tir_frames, *numbers = sys.argv[1:]  # two videos or img%04d.png; x y w h
box = np.array(numbers, dtype=float)
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
texts = session.get_modelmeta().custom_metadata_map
known = json.loads(texts["rgbt_fusion.tracking"])
state = {name: np.float32(v) for name, v in json.loads(texts["rgbt_fusion.initial_state"]).items()}
hann = np.float32(np.hanning(known["grid"] + 2)[1:-1])
inputs = {"window": np.outer(hann, hann)} | state
videos = {"rgb": cv2.VideoCapture(rgb_frames), "tir": cv2.VideoCapture(tir_frames)}


def crop(frame, size, side):
    """Return the square around the box, normalised, (1, 3, size, size)."""
    left, top = (round(c) + side for c in box[:2] + box[2:] / 2 - side / 2)
    padded = cv2.copyMakeBorder(frame, side, side, side, side, cv2.BORDER_CONSTANT)
    part = padded[top : top + side, left : left + side, ::-1]
    image = cv2.resize(part, (size, size)) / 255
    return np.float32((image - known["mean"]) / known["std"]).transpose(2, 0, 1)[None]


while all(video.grab() for video in videos.values()):
    kind = "search" if "template_rgb" in inputs else "template"
    side = int(np.ceil(np.sqrt(box[2] * box[3]) * known[f"{kind}_factor"]))
    for name, video in videos.items():
        inputs[f"{kind}_{name}"] = crop(video.retrieve()[1], known[f"{kind}_size"], side)
    if kind == "search":
        found = dict(zip(names, session.run(None, inputs), strict=True))
        inputs |= {name: found[f"next_{name}"] for name in state}
        x, y, width, height = found["box_cxcywh_unit"][0].astype(float) * side
        box[:2] += box[2:] / 2 - side / 2 + (x - width / 2, y - height / 2)
        box[2:] = width, height
    print(*box.round(3))
