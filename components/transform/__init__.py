"""From a photo's file to a tensor: `image_ops` has the operations, `preprocessing` is what Transform traces."""
