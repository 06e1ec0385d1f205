"""Names of the features of one example, as TensorFlow Datasets names them where it has them.

Every example written by ImageExampleGen is a `tf.train.Example` with one value each of:

| feature           | dtype | value                                                                             |
|-------------------|-------|-----------------------------------------------------------------------------------|
| `image`           | bytes | the photo's file as it was found, JPEG, PNG, GIF or BMP; or a PNG made of it      |
| `label`           | bytes | name of the class, UTF-8; a name, not TFDS' index, which changes with the classes |
| `file_name`       | bytes | path of the photo below its data folder, with `/`                                 |
| `dataset`         | bytes | `cats_vs_dogs`, `oxford_iiit_pet`, `image_folder` or `image_masks`                |
| `species`         | bytes | `cat`, `dog`, or empty where unknown                                              |
| `breed`           | bytes | breed as Oxford-IIIT Pets writes it, or empty where unknown                       |
| `image_format`    | bytes | true format of the file, from its bytes, such as `JPEG` or `WebP`                 |
| `width`           | int64 | pixels, > 0, upright (after EXIF orientation)                                     |
| `height`          | int64 | pixels, > 0, upright                                                              |
| `content_hash`    | bytes | SHA-256 of the file, 64 hexadecimal digits; the key of the example                |
| `perceptual_hash` | bytes | nearly the same for pictures that look the same, 16 hexadecimal digits, or empty  |

For segmentation each example also has:

| feature           | dtype | value                                                                             |
|-------------------|-------|-----------------------------------------------------------------------------------|
| `mask`            | bytes | PNG with one grey channel of 8 bits, as large as the upright photo; the value of  |
|                   |       | a pixel is the id of its class, 0 to C-1, or 255 if it is not counted             |
| `mask_classes`    | bytes | names of the classes in the mask, in the order of their ids; one or more values   |
| `mask_hash`       | bytes | SHA-256 of the mask's size and ids, 64 hexadecimal digits                         |

`label` is then only a slice, and empty for `image_masks`.
"""

IMAGE = "image"
LABEL = "label"
FILE_NAME = "file_name"
DATASET = "dataset"
SPECIES = "species"
BREED = "breed"
IMAGE_FORMAT = "image_format"
WIDTH = "width"
HEIGHT = "height"
CONTENT_HASH = "content_hash"
PERCEPTUAL_HASH = "perceptual_hash"
MASK = "mask"
MASK_CLASSES = "mask_classes"
MASK_HASH = "mask_hash"

# The value of a pixel of a mask that is not counted: not in training, not in any metric.
IGNORE = 255
# What the models learn: a class for each photo, or a class for each pixel.
CLASSIFICATION, SEGMENTATION = "classification", "segmentation"
TASKS = (CLASSIFICATION, SEGMENTATION)

# What later steps add.
FEATURE_VECTOR = "feature_vector"  # float32 [width of the backbone]
# bytes: at the freeze boundary, little endian, float16 in the split train, float32 in others; absent without a cut
ACTIVATIONS = "activations"
BOUNDARY = "boundary"  # bytes: name of the tensor that the activations are of
# bytes, one value for each name in `tap_names`: float16, little endian, what a decoder reads of the photo; only in the
# splits that are trained on, and absent where they would take too much space
TAPS = "taps"
TAP_NAMES = "tap_names"  # bytes: names of the tensors that the taps are of
MASK_IDS = "mask_ids"  # bytes: uint8 [size, size], the mask at the model's size, moved as its view is
BRIGHTNESS = "brightness"  # float32: mean of the photo's pixels in all colours, range [0, 1]
IMAGE_SIZE = "image_size"  # bytes: how many pixels the shorter side has, in four ranges, such as `256-511 px`
VIEW = "view"  # int64: 0 the photo itself, 1 and above its augmented views

# A photo's home for life: it follows from its content hash (or from an official list).
SPLITS = ("train", "eval", "test")

DATASETS = ("cats_vs_dogs", "oxford_iiit_pet", "image_folder", "image_masks")
# The data sets of them that may have masks.
MASK_DATASETS = ("oxford_iiit_pet", "image_masks")

# What metrics are sliced by.
SLICES = (LABEL, BREED, SPECIES, DATASET, IMAGE_SIZE, IMAGE_FORMAT)


def image_size(width: int, height: int) -> str:
    """Which range of sizes a photo belongs to, by its shorter side in pixels."""
    side = min(width, height)
    for low, high in ((0, 256), (256, 512), (512, 1024)):
        if side < high:
            return f"{low}-{high - 1} px" if low else f"below {high} px"
    return "1024 px and more"
