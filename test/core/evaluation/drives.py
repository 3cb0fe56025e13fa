"""Small recorded drives whose labels are known exactly, and what evaluations of them give."""

import csv
import json

import numpy as np

from offroad_seg_core.bags.library import McapReader
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.drive_places import drive_names
from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.inputs import (
    LabelOptions,
    TruthOptions,
    find_truth,
    open_frames,
    with_labels,
)
from offroad_seg_core.evaluation.outputs.label_bag import LabelBag
from offroad_seg_core.evaluation.outputs.labels import LabelFiles
from offroad_seg_core.evaluation.sources.combining import LabelledFrames, SeveralSources
from offroad_seg_core.evaluation.sources.frame import TARGET
from offroad_seg_core.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy('falcon10')
SIZE = (64, 96)
START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000
ROCKS, LANDSCAPE, SKY, IGNORE = 7, 8, 9, 255
FRAMES_A_PART = 16
TIMINGS = ('preprocess_ms', 'engine_ms', 'decode_ms')


def make_parts_small(set_attribute):
    """Let a few frames fill a part."""
    from offroad_seg_core.evaluation.sources import bag, dataset, pictures, video

    for module in (bag, dataset, pictures, video):
        set_attribute(module, 'FRAMES_A_PART', FRAMES_A_PART)


def scene(size=SIZE):
    """Landscape left, sky right; the truth has rocks bottom right, and a void strip between.

    The model's blocks cover both colours where the two meet.
    """
    height, width = size
    labels = np.full(size, LANDSCAPE, np.uint8)
    labels[:, width // 2 :] = SKY
    truth = labels.copy()
    truth[height // 2 :, width // 2 :] = ROCKS
    truth[:, width // 2 - width // 12 : width // 2 + width // 12] = IGNORE
    return labels, truth


def write_drive(
    path, cameras=('front', 'rear'), num_frames=8, size=SIZE, with_truth=True, start_ns=START_NS,
    dropped=(),
):  # fmt: skip
    """Write frames of ``scene`` but the dropped ones; the truth is 30 ms behind its frame."""
    labels, truth = scene(size)
    pixels = TAXONOMY.palette_bgr[labels]
    with MessageBag(path) as bag:
        bag.set_custom_data('ground_truth_taxonomy', 'falcon10')
        for index in sorted({*range(num_frames)} - {*dropped}):
            stamp_ns = start_ns + index * STEP_NS
            for camera in cameras:
                header = Header(stamp_ns, f'{camera}_link')
                bag.write_image(f'/{camera}/image_raw', stamp_ns, header, pixels, 'bgr8')
            for camera in cameras if with_truth else ():
                topic = f'/{camera}/ground_truth/label_map'
                bag.write_image(topic, stamp_ns + 30_000_000, header, truth, 'mono8')
    return path


def damage_chunk(path, number):
    """Let the checksum of one of a bag's chunks be wrong; return how many messages it has."""
    (file,) = path.glob('*.mcap')
    storage = McapReader(file)
    storage.open()
    chunk = storage.chunks[number]
    num_messages = sum(chunk.channel_count.values())
    storage.close()
    with file.open('r+b') as stream:
        stream.seek(chunk.chunk_start_offset + 33)
        stream.write(b'\xde\xad\xbe\xef')
    return num_messages


AUTO = TruthOptions()


def run(path, predictor, output, on_frame=lambda count: None, truth=AUTO, **options):
    """Evaluate what ``open_frames`` finds, with its truth."""
    frames = open_frames(path)
    labels = find_truth(frames, predictor.taxonomy, truth)
    source = LabelledFrames(frames, {TARGET: labels}) if labels else frames
    restart = options.pop('restart', False)
    evaluation = Evaluation(source, predictor, output, **options)
    return evaluate(evaluation, on_frame, restart)


def source_of(places, truth='none', recorded=None):
    """Return the frames of drives with their labels, as the command makes them."""
    options = TruthOptions(str(truth))
    labels = LabelOptions(TAXONOMY, options, recorded, is_alone=len(places) == 1)
    found = {
        name: with_labels(open_frames(place), labels, name)
        for name, place in drive_names([str(place) for place in places]).items()
    }
    return SeveralSources(found) if len(found) > 1 else next(iter(found.values()))


def evaluated(predictor, output, places, **labels):
    """Evaluate drives, and write both kinds of labels."""
    sinks = LabelFiles(), LabelBag(predictor.cost_table, '{}')
    source = source_of(places, **labels)
    return evaluate(Evaluation(source, predictor, output, sinks=sinks), lambda count: None)


def scores(folder):
    """Return how many frames have labels and truth, and their mean IoU."""
    said = summary(folder)
    miou = said['scores'] and said['scores']['together']['scores']['miou_present']
    return said['num_labelled'], said['num_with_truth'], miou


def table(folder):
    """Return the rows of frames.csv without what a clock measured."""
    with open(folder / 'frames.csv', newline='') as stream:
        return [
            {name: cell for name, cell in row.items() if name not in TIMINGS}
            for row in csv.DictReader(stream)
        ]


def summary(folder):
    return json.loads((folder / 'summary.json').read_text())
