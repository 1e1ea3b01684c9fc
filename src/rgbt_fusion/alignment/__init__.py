"""Registration of two recordings in space and in time, with numpy and OpenCV alone."""
