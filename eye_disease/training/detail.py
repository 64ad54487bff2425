"""Fine detail for a network that reads small photos: a path beside its first convolution that reads them at twice the size.

The smallest signs of diabetic retinopathy, microaneurysms, are a few pixels wide in a photo of 512 pixels and gone at half
that size. Twice the input of the whole network would cost four times the work; two narrow convolutions in front of it cost
a sixth more.
"""

import keras

from eye_disease.common.errors import UserError

FILTERS = 16
FINE, DETAIL = "detail_fine_conv", "detail_conv"
"""Names of the path's convolutions, of stride 2 each."""


def with_detail(network: keras.Model) -> keras.Model:
    """(N, S, S, 3) -> outputs becomes (N, 2 S, 2 S, 3) -> the same outputs for the photos halved, until it is trained further.

    The photo, halved by its means of 2 x 2 pixels, goes into the network as before; what the path sees is added to what the
    network's first convolution sees. Raises UserError where that is not a convolution of stride 2 that reads all of the photo.
    """
    first = next((layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)), None)
    if first is None or first.strides != (2, 2) or first.padding != "same" or first.get_config()["activation"] != "linear":
        raise UserError(
            "Expected a network whose first layer with weights is a linear convolution of stride 2 with padding 'same', as of "
            "EfficientNet-Lite; to this base no path for detail can be added."
        )
    image = keras.Input([2 * side for side in network.inputs[0].shape[1:3]] + [3], name=network.inputs[0].name)
    made = {id(network.inputs[0]): image}
    for layer in network.layers[1:]:
        inputs = keras.tree.map_structure(lambda tensor: made[id(tensor)], layer.input)
        same = type(layer).from_config(layer.get_config())
        if layer is first:
            halved = keras.layers.AveragePooling2D(2, name="detail_halved")(inputs)
            fine = keras.layers.Conv2D(FILTERS, 3, strides=2, padding="same", activation="relu", name=FINE)(inputs)
            path = keras.layers.Conv2D(first.filters, 3, strides=2, padding="same", kernel_initializer="zeros", name=DETAIL)
            made[id(layer.output)] = keras.layers.Add(name="detail_add")([same(halved), path(fine)])
        else:
            made[id(layer.output)] = same(inputs)
        same.set_weights(layer.get_weights())
    return keras.Model(image, keras.tree.map_structure(lambda tensor: made[id(tensor)], network.outputs))
