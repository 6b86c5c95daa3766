"""Models with several inputs and outputs: their data in every form, and whole searches."""

import keras
import keras_tuner
import numpy as np
import pytest

import kerasnorm
from daily import on_torch_daily
from kerasnorm.sites import norm_layer
from search import data as datasets
from search import measuring, running
from search.data import nests
from search.data.parts import Form
from search.data.splits import Splits
from search.errors import BadInput, OtherSearch
from search.fitting import check_model
from search.hypermodel import NormHyperModel

COUNT = 60
RNG = np.random.default_rng(0)
LEFT, RIGHT = (RNG.normal(size=(COUNT, width)).astype("float32") for width in (4, 3))
SIZE = (LEFT.sum(axis=1, keepdims=True) + RIGHT[:, :1]).astype("float32")
KIND = (np.arange(COUNT) % 3).astype("int32")
X, Y = {"left": LEFT, "right": RIGHT}, {"size": SIZE, "kind": KIND}


def network(norm, inputs=dict, outputs=dict, **compiled):
    """Two inputs and two outputs, in dictionaries or lists."""
    given = {"left": keras.Input((4,), name="left"), "right": keras.Input((3,), name="right")}
    features = keras.layers.Dense(8)(keras.layers.Concatenate()(list(given.values())))
    features = keras.layers.Activation("relu")(norm_layer(norm)(features))
    made = {
        "size": keras.layers.Dense(1, name="size")(features),
        "kind": keras.layers.Dense(3, activation="softmax", name="kind")(features),
    }
    kinds = {dict: lambda nest: nest, list: lambda nest: list(nest.values())}
    model = keras.Model(kinds[inputs](given), kinds[outputs](made), name="net")
    options = {
        "loss": {"size": "mse", "kind": "sparse_categorical_crossentropy"},
        "metrics": {"kind": ["accuracy"]},
        "run_eagerly": True,
    }
    model.compile("adam", **{**options, **compiled})
    return model


def with_lists(norm):
    return network(norm, list, list)


OPTIONS = {
    "norms": "batch,layer",
    "placements": "all",
    "trials": 2,
    "epochs": 1,
    "seeds": 2,
    "candidates": 1,
    "ablation": 0,
    "batch_size": 12,
    "console": False,
}


class Batches(keras.utils.PyDataset):
    def __init__(self, x=X, y=Y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 4

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * (index + 1))
        return keras.tree.map_structure(lambda array: array[rows], (self.x, self.y))


def examples(rows=range(COUNT)):
    return [
        ({name: one[row] for name, one in X.items()}, {name: one[row] for name, one in Y.items()})
        for row in rows
    ]


def forms():
    import tensorflow as tf
    import torch

    return {
        "a dictionary of arrays": {"x": X, "y": Y},
        "tf.data": tf.data.Dataset.from_tensor_slices((X, Y)).batch(16),
        "PyDataset": Batches(),
        "DataLoader": torch.utils.data.DataLoader(examples(), batch_size=16),
        "generator": (Batches()[index] for index in range(4)),
        "factory": lambda: (Batches()[index] for index in range(4)),
        "a class": Batches,
    }


def load():
    return X, Y


def test_every_form_gives_the_same_parts():
    wanted = datasets.load((X, Y))
    assert wanted.task == "compiled"
    assert wanted.input_shape == {"left": (4,), "right": (3,)}
    assert wanted.output_shape == {"kind": (), "size": (1,)}
    assert [len(part) for part in (wanted.train, wanted.validation, wanted.test)] == [38, 10, 12]
    assert wanted.described()["shapes"]["test"] == {"left": [12, 4], "right": [12, 3]}
    for name, form in forms().items():
        assert datasets.load(form).fingerprint == wanted.fingerprint, name
    assert datasets.load(f"{__file__}:load").fingerprint == wanted.fingerprint
    listed = datasets.load(Batches([LEFT, RIGHT], [SIZE, KIND]))
    assert listed.fingerprint == datasets.load(((LEFT, RIGHT), (SIZE, KIND))).fingerprint
    parts = datasets.load({"train": Batches(), "test": (X, Y)})
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [48, 12, 60]


def test_the_fingerprint_is_of_every_array_and_its_place():
    other = RIGHT.copy()
    other[7, 2] += 1
    given = [
        (X, Y),
        ({"left": LEFT, "right": other}, Y),
        ({"left": LEFT, "other": RIGHT}, Y),
        ((LEFT, RIGHT), Y),
        (((LEFT,), RIGHT), Y),
        ({**X, "size": SIZE}, {"kind": KIND}),
        (X, {"size": other[:, :1], "kind": KIND}),
        (X, [SIZE, KIND]),
    ]
    assert len({datasets.load(one).fingerprint for one in given}) == len(given)
    assert datasets.load((dict(reversed(X.items())), Y)).fingerprint == (
        datasets.load((X, Y)).fingerprint
    )


def numbered(count=COUNT):
    """Arrays in which every one says which example it is of."""
    rows = np.arange(count)
    x = {"a": rows[:, None] + np.zeros(2), "b": (rows, rows[:, None, None] * np.ones((1, 2, 3)))}
    return x, {"c": rows, "d": rows[:, None] / 2}


def are_whole(part):
    (a, ids, pictures), (c, d) = nests.flat(part.x), nests.flat(part.y)
    for other in (ids, pictures[:, 1, 2], c, 2 * d[:, 0]):
        np.testing.assert_array_equal(a[:, 0], other)
    return a[:, 0].astype(int).tolist()


def test_the_arrays_of_an_example_stay_together():
    data = datasets.load(numbered())
    assert data.input_shape == {"a": (2,), "b": [(), (2, 3)]}
    splits = Splits(data, 3)
    for split in range(3):
        own = splits[split]
        rows = [row for part in (own.train, own.validation, own.test) for row in are_whole(part)]
        assert sorted(rows) == list(range(COUNT))
    assert are_whole(splits[1].test) != are_whole(splits[2].test)
    batches = running.Batches(data.train, 8, seed=0)
    assert sum(len(set(are_whole(datasets.Part(*batches[index])))) for index in range(4)) == 32


def test_examples_are_the_same_where_all_their_arrays_are():
    x, y = numbered()
    x["a"] = np.zeros((COUNT, 2))
    assert Splits(datasets.load((x, y)), 3)
    with pytest.raises(BadInput, match="too many examples belong together"):
        Splits(datasets.load(({"a": x["a"], "b": 0 * x["a"]}, y)), 3)


def test_numbers_of_several_inputs_stay_what_they_are():
    words = np.arange(COUNT)
    pictures = np.full((COUNT, 2, 2), 255, "uint8")
    data = datasets.load(({"words": words, "pictures": pictures, "flags": words > 3}, words % 2))
    assert (data.task, data.classes) == ("classification", 2)
    assert {name: one.dtype for name, one in data.train.x.items()} == {
        "words": "int32",
        "pictures": "float32",
        "flags": "int32",
    }
    assert data.train.x["pictures"].max() == 1
    assert data.input_shape["pictures"] == (2, 2)
    # A list of numbers is one array.
    assert datasets.load(({"words": list(words)}, list(words % 2))).classes == 2


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ({**X, "right": RIGHT[:9]}, Y, r"x_train\['left'\] has 60 examples, x_train\['right'\] 9"),
        (X, {**Y, "kind": KIND[:9]}, r"y_train\['kind'\] 9\. .* as many of each"),
        (list(LEFT), KIND, r"x_train\[0\] has 4 examples, .*numpy\.stack makes one array"),
        ({**X, "right": RIGHT * np.nan}, Y, r"x_train\['right'\] holds NaN"),
        ({**X, "right": np.array(["a"] * COUNT)}, Y, r"x_train\['right'\] has dtype <U1"),
        ({**X, "right": KIND + np.int64(2**40)}, Y, r"x_train\['right'\] holds 1099511627776"),
        (X, {**Y, "kind": np.array(["a"] * COUNT)}, r"y_train\['kind'\] has dtype <U1"),
        ({}, Y, "holds no array"),
        ({"a": LEFT, "b": 3}, Y, r"x_train\['b'\] is one number"),
        ({0: LEFT, 1: RIGHT}, Y, "has the keys 0, 1. Needed: texts"),
    ],
)
def test_arrays_that_do_not_fit(x, y, message):
    with pytest.raises(BadInput, match=message):
        datasets.load((x, y))


def test_what_is_refused_of_data():
    with pytest.raises(BadInput, match="examples of the parts differ in shape"):
        datasets.load({"train": (X, Y), "test": ([LEFT, RIGHT], Y)})
    with pytest.raises(BadInput, match=r"labels of several outputs\. Needed: --task compiled"):
        datasets.load((X, Y), task="regression")
    with pytest.raises(BadInput, match="batches differ in shape"):
        datasets.load(iter([(X, Y), ([LEFT, RIGHT], Y)]))
    with pytest.raises(BadInput, match=r"the third weighs examples.*several inputs are a list"):
        datasets.load(iter([(LEFT, RIGHT, KIND)]))
    with pytest.raises(BadInput, match="augmentation changes images, and the data have several"):
        datasets.checked_augmentation(datasets.load((X, KIND)), True)


INPUTS, OUTPUTS = {"left": (4,), "right": (3,)}, {"size": (1,), "kind": ()}


def form_of(inputs=INPUTS, outputs=OUTPUTS):
    return Form(inputs, outputs, None, "compiled")


@pytest.mark.parametrize(
    ("model", "form", "message"),
    [
        ({}, form_of([(4,), (3,)]), r"takes x\['left'\] and x\['right'\], .* have x\[0\] and x"),
        ({}, form_of({"left": (4,)}), r"the data's examples have x\['left'\]\. Needed: the same"),
        ({}, form_of((4,)), "the data's examples have x. Needed"),
        ({}, form_of({**INPUTS, "more": (3,)}), r"have x\['left'\] and x\['more'\]"),
        ({}, form_of({**INPUTS, "left": (5,)}), r"x\['left'\] of shape \(4,\), .* have \(5,\)"),
        ({"inputs": list}, form_of([(4,)]), r"takes x\[0\] and x\[1\]"),
        ({}, form_of(outputs=[(1,), ()]), r"gives y\['kind'\] and y\['size'\], .* labels y\[0\]"),
        ({}, form_of(outputs={"size": (1,)}), r"have the labels y\['size'\]\. Needed: labels for"),
        ({}, form_of(outputs={**OUTPUTS, "a": ()}), r"have the labels y\['a'\] and"),
        ({}, Form(INPUTS, (3,), 3), "have the labels y. Needed: labels for each output"),
        ({}, form_of(outputs={**OUTPUTS, "size": (2,)}), r"MeanSquaredError for y\['size'\], an"),
        ({}, form_of(outputs={**OUTPUTS, "kind": (3,)}), "Needed: integer labels of shape"),
        (
            {"outputs": list, "loss": ["mse", "categorical_crossentropy"]},
            form_of(outputs=[(1,), ()]),
            r"CategoricalCrossentropy for y\[1\].*one-hot labels of shape \(3,\)",
        ),
    ],
)
def test_models_that_do_not_fit(model, form, message):
    with pytest.raises(BadInput, match=message):
        check_model(network("batch", **model), form)


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ({}, form_of()),
        ({}, form_of(outputs={"size": (), "kind": (1,)})),
        ({"inputs": list, "outputs": list}, form_of()),
        ({"inputs": list, "outputs": list}, form_of([(4,), (3,)], [(1,), ()])),
        # Keras takes the inputs that a model has of a dictionary.
        ({"inputs": list}, form_of({**INPUTS, "more": (3,)})),
        # An output without a loss needs no labels.
        ({"loss": {"size": "mse"}, "metrics": None}, form_of(outputs={"size": (1,)})),
    ],
)
def test_models_that_fit(model, form):
    check_model(network("batch", **model), form)


def miss_of_size(model, test):
    place = "size" if isinstance(test.y, dict) else 0
    miss = np.abs(model.predict(test.x, verbose=0)[place][:, 0] - test.y[place].ravel())
    return miss.mean(), miss


def test_measures_of_one_output():
    for kind_of, x, y in ((dict, X, Y), (list, [LEFT, RIGHT], [SIZE[:, 0], KIND])):
        model = network("batch", kind_of, kind_of)
        data = datasets.load((x, y))
        part = data.test
        truth = measuring.fitting.by_output(model, part.y)

        def measured(measure, model=model, data=data):
            chosen, by = measuring.chosen(measure, data.task, several=True)
            test = measuring.Test(Splits(data), chosen, by)
            test.check(model)
            return test(model)

        size, kind = (
            measuring.fitting.by_output(model, measuring.outputs_of(model, part.x))[name]
            for name in ("size", "kind")
        )
        right = kind.argmax(axis=1) == truth["kind"]
        evaluated = measuring.evaluated(model, part)
        value, values = measured("kind_accuracy")
        assert value == pytest.approx(right.mean())
        np.testing.assert_array_equal(values, right)
        np.testing.assert_array_equal(measured("kind_error")[1], ~right)
        miss = np.abs(size[:, 0] - truth["size"].ravel())
        np.testing.assert_allclose(measured("size_mae")[1], miss, rtol=1e-5)
        assert measured("loss") == (pytest.approx(evaluated["loss"]), None)
        assert measured("kind_loss") == (pytest.approx(evaluated["kind_loss"]), None)
        with pytest.raises(
            BadInput, match="'accuracy' is not known of model 'net', whose outputs "
        ):
            measured("accuracy")
    with pytest.raises(BadInput, match=r"does not say of which output. Needed: its name after"):
        measured(keras.metrics.AUC())


def test_a_searched_batch_size_counts_for_several_arrays():
    class Fitted:
        def fit(self, *args, **kwargs):
            return kwargs

    hp = keras_tuner.HyperParameters()
    hp.values = {"batch_size": 8}
    hypermodel = NormHyperModel(network, form=form_of())
    for x in (LEFT, X, [LEFT, RIGHT]):
        assert hypermodel.fit(hp, Fitted(), x, SIZE) == {"batch_size": 8}
    assert hypermodel.fit(hp, Fitted(), Batches()) == {}


def test_transforms_of_one_input_are_refused():
    transforms = [None, kerasnorm.transforms.Blur()]
    with pytest.raises(BadInput, match="Blur transforms one input, and the data have several"):
        NormHyperModel(network, transforms=transforms, form=form_of())


def test_losses_that_fail_are_refused_before_the_first_trial(tmp_path):
    def build(norm):
        return network(norm, loss={"size": "mse", "kind": lambda y, z: y["none"]})

    with pytest.raises(BadInput, match="model 'net' cannot be evaluated with these labels"):
        running.run(build, (X, Y), out=tmp_path / "s", **OPTIONS)
    with pytest.raises(BadInput, match="'resnet8' has one input and one output"):
        running.run("resnet8", (X, Y), out=tmp_path / "s", **OPTIONS)
    assert not (tmp_path / "s").exists()


@on_torch_daily
def test_a_search_in_processes_with_splits_goes_on(tmp_path):
    options = {**OPTIONS, "measure": "kind_error", "objective": "val_kind_accuracy"}
    options |= {"executor": "processes", "splits": 3, "seeds": 3, "norms": "batch", "trials": 1}
    found = running.run(network, lambda: (X, Y), out=tmp_path / "s", **options)
    assert [row["status"] for row in found.rows] == ["completed"], found.rows[0]["traceback"]
    assert {"val_size_loss", "val_kind_error"} <= set(found.rows[0]["metrics"])
    assert found.manifest["data"]["outputs"] == {"kind": [], "size": [1]}
    assert all(len(values) == 12 for arm in found.answer.arms for values in arm.values_of.values())
    assert "test kind error" in found.answer.sentence
    again = running.run(out=tmp_path / "s", resume=True, data=(X, Y), console=False)
    assert again.answer.sentence == found.answer.sentence
    changed = {"left": LEFT, "right": RIGHT + 1}
    with pytest.raises(OtherSearch, match=r"data\.fingerprint"):
        running.run(out=tmp_path / "s", resume=True, data=(changed, Y), console=False)


def test_a_trained_model_takes_inputs_by_name_or_in_order(tmp_path):
    model = network("batch", list, list)
    options = {**OPTIONS, "trials": 1, "norms": "layer", "seeds": 0, "reestimate": True}
    scores = []
    for x in (X, [LEFT, RIGHT]):
        data, out = Batches(x, [SIZE, KIND]), tmp_path / f"{len(scores)}"
        found = running.run(model, data, start="converted", out=out, **options)
        assert found.rows[0]["status"] == "completed", found.rows[0]["traceback"]
        scores.append(found.rows[0]["score"])
    assert scores[0] == pytest.approx(scores[1])
