"""From a camera image to a label map: bundles, engines, the segmenter."""
