"""A small data set in CIFAR-10's own format."""

import pickle

import numpy as np

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_cifar10(folder, per_file=4, protocol=2):
    """Write the seven files and return the training pictures (N×32×32×3) and labels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pictures, labels = [], []
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        planes = rng.integers(0, 256, (per_file, 3, 32, 32), np.uint8)
        file_labels = rng.integers(0, 10, per_file).tolist()
        content = dict(data=planes.reshape(per_file, -1), labels=file_labels, batch_label=name)
        (folder / name).write_bytes(pickle.dumps(content, protocol))
        if name != "test_batch":
            pictures.append(planes.transpose(0, 2, 3, 1))
            labels += file_labels
    (folder / "batches.meta").write_bytes(pickle.dumps(dict(label_names=CLASSES), protocol))
    return np.concatenate(pictures), labels
