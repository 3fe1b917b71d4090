"""Every difference between Blender 4.2, 4.5, 5.0 and 5.2 that this extension meets, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy

from .node_tools import NodeBuilder

VERSION: tuple[int, int, int] = tuple(bpy.app.version)

# Passes of a multilayer EXR: 5.x writes the long names that the interface shows.
_PASS_NAMES: dict[str, tuple[str, ...]] = {
    "combined": ("Combined",),
    "diffuse_direct": ("DiffDir", "Diffuse Direct"),
    "diffuse_indirect": ("DiffInd", "Diffuse Indirect"),
    "diffuse_color": ("DiffCol", "Diffuse Color"),
    "glossy_direct": ("GlossDir", "Glossy Direct"),
    "glossy_indirect": ("GlossInd", "Glossy Indirect"),
    "glossy_color": ("GlossCol", "Glossy Color"),
}


def pointer_poll(function: Callable[[Any, Any], bool]) -> dict[str, Any]:
    """The ``poll`` argument of a PointerProperty, left out where it would cost a crash.

    bpy 4.2 dies at exit when a PropertyGroup holds any Python function, a method or a callback.
    """
    return {"poll": function} if VERSION >= (4, 5, 0) else {}


def engine_id(name: str) -> str:
    """Blender's identifier for ``CYCLES`` or ``EEVEE``, which was renamed in 4.2 and again in 5.0."""
    if name == "EEVEE":
        return "BLENDER_EEVEE" if VERSION >= (5, 0, 0) else "BLENDER_EEVEE_NEXT"
    return name


def enable_nodes(owner: Any) -> Any:
    """Return the node tree of a material or world; 5.x always has one and deprecates the switch."""
    if owner.node_tree is None or VERSION < (5, 0, 0):
        owner.use_nodes = True
    return owner.node_tree


def world_nodes(world: Any) -> Any:
    """The nodes that a World is made of, or None where it is one plain color."""
    if world is None or (VERSION < (5, 0, 0) and not world.use_nodes):
        return None
    return world.node_tree


def light_nodes(light: Any) -> Any:
    """The nodes of a lamp that count, or None."""
    return light.node_tree if getattr(light, "use_nodes", True) else None


def set_multilayer_exr(settings: Any) -> None:
    """Make image settings write float multilayer EXR, in the working space, with a codec that ``exr.py`` reads back."""
    settings.color_management = "FOLLOW_SCENE"
    if hasattr(settings, "media_type"):  # 5.0 and later hide the format until the medium is said
        settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format = "OPEN_EXR_MULTILAYER"
    settings.color_depth = "32"
    settings.exr_codec = "ZIP"


def set_still_format(settings: Any, file_format: str) -> None:
    """Make image settings write one still picture in ``file_format`` (``PNG``, ``OPEN_EXR``...), as the scene shows it."""
    settings.color_management = "FOLLOW_SCENE"
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format = file_format


def set_modifier_input(modifier: Any, tree: Any, name: str, value: Any) -> None:
    """Set an input of a Geometry Nodes modifier by the name that its group shows."""
    key, inputs = _modifier_input(modifier, tree, name)
    if inputs is not None:
        getattr(inputs, key).value = value
    else:
        modifier[key] = value


def modifier_input_path(modifier: Any, tree: Any, name: str) -> str:
    """The data path of that input on its object, for a driver."""
    key, inputs = _modifier_input(modifier, tree, name)
    path = str(modifier.path_from_id())
    return f"{path}.properties.inputs.{key}.value" if inputs is not None else f'{path}["{key}"]'


def _modifier_input(modifier: Any, tree: Any, name: str) -> tuple[str, Any]:
    """The input's identifier, and what has it: 5.2 has real properties; before it, custom ones of the modifier (None)."""
    for item in tree.interface.items_tree:
        if item.item_type == "SOCKET" and item.in_out == "INPUT" and item.name == name:
            return item.identifier, getattr(getattr(modifier, "properties", None), "inputs", None)
    raise KeyError(f"{tree.name} has no input {name!r}")


def pass_channels(planes: dict[str, Any], key: str) -> Any:
    """Find a pass among the layers of a multilayer EXR that Blender wrote.

    ``planes`` maps layer names such as ``ViewLayer.DiffDir`` to arrays; ``key`` is one of ``_PASS_NAMES``.
    """
    for name, plane in planes.items():
        if name.rpartition(".")[2] in _PASS_NAMES[key]:
            return plane
    raise KeyError(key)


def layer_of(scene: Any, thing: Any = None) -> Any:
    """The view layer to render: the window's if it shows ``thing``, else the first that does; those in use come first."""
    layers = sorted(scene.view_layers, key=lambda layer: not layer.use)
    if bpy.context.scene == scene and bpy.context.view_layer is not None:
        layers.insert(0, bpy.context.view_layer)
    return next((layer for layer in layers if thing is None or thing.name in layer.objects), layers[0])


def use_one_layer(kept: Any, scene: Any, thing: Any = None) -> Any:
    """Switch all view layers off but that of ``layer_of``, and return it: files name layers in an order of their own.

    ``kept`` is the ``Temporary`` that puts them back.
    """
    chosen = layer_of(scene, thing)
    kept.set(chosen, "use", True)
    for layer in scene.view_layers:
        if layer != chosen:
            kept.set(layer, "use", False)
    return chosen


_IMAGE_SETTINGS = (
    "media_type", "file_format", "color_mode", "color_depth", "exr_codec", "views_format", "color_management",
)  # fmt: skip


def image_settings(settings: Any) -> dict[str, Any]:
    """Image settings to be put back later: choosing multilayer changes several behind our back."""
    return {name: getattr(settings, name) for name in _IMAGE_SETTINGS if hasattr(settings, name)}


def restore_image_settings(settings: Any, before: dict[str, Any]) -> None:
    """Put image settings back in the order in which they depend on one another."""
    for name, value in before.items():
        setattr(settings, name, value)


def make_panorama(camera: Any) -> None:
    """Make a camera an equirectangular panorama; 5.0 moved the setting from Cycles' own group to the camera."""
    camera.type = "PANO"
    owner = camera if hasattr(camera, "panorama_type") else camera.cycles
    owner.panorama_type = "EQUIRECTANGULAR"


def compositor_tree(scene: Any) -> Any:
    """The compositor's tree of a scene, made if there is none; 5.0 made it a node group like any other."""
    if hasattr(scene, "compositing_node_group"):
        if scene.compositing_node_group is None:
            tree = bpy.data.node_groups.new(f"{scene.name} Compositing", "CompositorNodeTree")
            tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
            tree.nodes.new("NodeGroupOutput").location = (500.0, 400.0)
            scene.compositing_node_group = tree
        return scene.compositing_node_group
    if scene.node_tree is None or not scene.use_nodes:
        fresh = scene.node_tree is None
        scene.use_nodes = True
        if fresh:
            scene.node_tree.nodes.clear()  # Render Layers to Composite, which nobody asked for yet
    return scene.node_tree


def compositor_output(tree: Any) -> Any:
    """The socket that takes the compositor's result."""
    kind = "NodeGroupOutput" if VERSION >= (5, 0, 0) else "CompositorNodeComposite"
    node = next((node for node in tree.nodes if node.bl_idname == kind), None)
    if node is None:
        node = tree.nodes.new(kind)
        node.location = (500.0, 400.0)
    return node.inputs[0]


class CompositorBuilder(NodeBuilder):
    """Compositor nodes, which 4.5 and 5.0 renamed and whose settings they turned into sockets."""

    _REACH = 256  # pixels of the largest blur before 4.5, where the size is a share of this

    def math(self, operation: str, *inputs: Any, clamp: bool = False) -> Any:
        """A Math node's output."""
        kind = "ShaderNodeMath" if VERSION >= (5, 0, 0) else "CompositorNodeMath"
        return self.add(kind, *inputs, operation=operation, use_clamp=clamp).outputs[0]

    def color(self, operation: str, first: Any, second: Any) -> Any:
        """``first`` and ``second`` multiplied or added, unclamped; a value stands for gray."""
        if VERSION < (5, 0, 0):
            node = self.add("CompositorNodeMixRGB", 1.0, first, second, blend_type=operation)
            return node.outputs[0]
        node = self.add("ShaderNodeMix", data_type="RGBA", blend_type=operation, clamp_factor=True)
        self.feed(node.inputs[0], 1.0)
        self.feed(node.inputs[6], first)
        self.feed(node.inputs[7], second)
        return node.outputs[2]

    def blur(self, image: Any, pixels: Any) -> Any:
        """Gaussian blur by a number of pixels."""
        node = self.add("CompositorNodeBlur", image)
        size = node.inputs["Size"]
        if size.type == "VECTOR":
            self.feed(size, pixels)
        else:
            node.filter_type = "GAUSS"
            node.size_x = node.size_y = self._REACH
            self.feed(size, self.math("DIVIDE", pixels, float(self._REACH)))
        return node.outputs[0]

    def split(self, image: Any) -> Any:
        """Outputs Red, Green, Blue and Alpha of a color."""
        return self.add("CompositorNodeSeparateColor", image).outputs

    def join(self, *channels: Any) -> Any:
        """A color of four values."""
        return self.add("CompositorNodeCombineColor", *channels).outputs[0]


def can_denoise() -> bool:
    """Whether this Blender was built with OpenImageDenoise; some distributions' are not, and refuse to render."""
    try:
        import _cycles
    except ImportError:
        return False
    return bool(getattr(_cycles, "with_openimagedenoise", False))
