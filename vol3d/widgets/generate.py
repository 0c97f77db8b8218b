"""Generate: brains of the covariates that sliders ask for, drawn while they move."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from vol3d.data.dataset import SPACING
from vol3d.errors import Vol3dError
from vol3d.viewer.covariate_inputs import Scale, inputs_of
from vol3d.viewer.window import upright
from vol3d.widgets.covariates import CovariateSliders
from vol3d.widgets.fields import fields_of
from vol3d.widgets.form import Form
from vol3d.widgets.generated_layers import GeneratedLayers
from vol3d.widgets.layout import group, scrolled
from vol3d.widgets.work import Work

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from vol3d.trained import TrainedGenerator
    from vol3d.widgets.generation import Request, Sweep

READY = "ready"
SWEEP_STEPS = 7


class GenerateWidget(QWidget):
    """Choose a model, ask for covariates, look at what it draws, save a cohort.

    Attributes:
        bundle: the path of the model that was asked for last.
        model: that is open; None before the first is.
        sliders: its covariates.
        draws: the form of seed and number.
        sampler: the form of the sampler.
        saving: the form of what is saved.
        work: what is being drawn.
        saving_work: what is being saved; that goes on while sliders move.
    """

    def __init__(self, napari_viewer: "Viewer") -> None:
        super().__init__()
        upright(napari_viewer)
        self.viewer, self.model, self.bundle = napari_viewer, None, READY
        self.layers = GeneratedLayers(napari_viewer)
        self.work, self.saving_work = Work(), Work()
        self.body = scrolled(self, below=self.work)
        self.build_source()
        for work in (self.work, self.saving_work):
            self.destroyed.connect(work.stop)
        self.open(READY)

    # -- the model --------------------------------------------------------------------------------

    def open(self, bundle: str) -> None:
        """Open a model, and draw its first brain."""
        self.bundle = bundle
        self.source.set("bundle", bundle)
        self.work.message.setText(f"opening {bundle}")
        self.work.start(lambda tell: open_model(bundle), self.opened)

    def opened(self, model: "TrainedGenerator") -> None:
        """A model is open: show what can be asked of it."""
        if self.model is None:
            self.build()
        self.model = model
        inputs = inputs_of(model.schema)
        fresh = CovariateSliders(inputs)
        fresh.changed.connect(self.asked_otherwise)
        self.covariates.layout().replaceWidget(self.sliders, fresh)
        self.sliders.deleteLater()
        self.sliders = fresh
        self.sampler.show_fields(fields_of(model.sampler, "solver", "steps", "guidance"))
        self.swept.clear()
        numbers = [one.name for one in inputs if isinstance(one, Scale)]
        self.swept.addItems([name for name in numbers if name != SPACING])  # frames share a grid
        self.draw()

    def build_source(self) -> None:
        """The form of the model: another can be named whatever comes of the first."""
        from vol3d.verbs.generate import Generate

        self.source = Form(fields_of(Generate, "bundle"))
        self.source.changed.connect(lambda: self.open(self.source.values["bundle"] or READY))
        self.body.addWidget(self.source)

    def build(self) -> None:
        """The other forms, of what a model can be asked for."""
        from vol3d.verbs.generate import Generate

        self.covariates, self.sliders = QGroupBox("Ask for"), QWidget()
        QVBoxLayout(self.covariates).addWidget(self.sliders)
        self.draws = Form(fields_of(Generate, "seed", "n"))
        self.draws.set("n", 1)
        self.sampler = Form([])
        for form in (self.draws, self.sampler):
            form.changed.connect(self.asked_otherwise)
        self.live = QCheckBox("Draw at once when something changes")
        self.live.setChecked(True)
        self.button = QPushButton("Draw")
        self.button.clicked.connect(self.draw)
        for widget in (self.covariates, self.draws, self.sampler):
            self.body.addWidget(widget)
        for widget in (self.live, self.button, self.build_sweep()):
            self.body.addWidget(widget)
        self.saving = Form(fields_of(Generate, "out", "segmenter"))
        self.save_button = QPushButton("Save as a cohort")
        self.save_button.clicked.connect(self.save)
        self.body.addWidget(group("Save", self.saving, self.save_button, self.saving_work))
        self.body.addStretch(1)

    def build_sweep(self) -> QGroupBox:
        """What is swept, from where to where."""
        self.swept, self.sweep_steps = QComboBox(), QSpinBox()
        self.sweep_ends = QDoubleSpinBox(), QDoubleSpinBox()
        for box in self.sweep_ends:
            box.setRange(-1e9, 1e9)
            box.setDecimals(1)
        self.sweep_steps.setRange(2, 99)
        self.sweep_steps.setValue(SWEEP_STEPS)
        self.swept.currentTextChanged.connect(self.sweep_training_range)
        self.sweep_button = QPushButton("Sweep")
        self.sweep_button.clicked.connect(self.sweep)
        lines, inner = QFormLayout(), QWidget()
        for words, box in (
            ("covariate", self.swept),
            ("from", self.sweep_ends[0]),
            ("to", self.sweep_ends[1]),
            ("steps", self.sweep_steps),
        ):
            lines.addRow(words, box)
        inner.setLayout(lines)
        return group("Sweep along one covariate", inner, self.sweep_button)

    def sweep_training_range(self, name: str) -> None:
        """A sweep begins and ends where training did, unless somebody says otherwise."""
        if name:
            number = self.model.schema[name]
            for box, value in zip(self.sweep_ends, (number.low, number.high), strict=True):
                box.setValue(value)

    # -- drawing ----------------------------------------------------------------------------------

    def request(self, sweep: "Sweep | None" = None) -> "Request":
        """What the controls ask for."""
        from vol3d.widgets.generation import Request

        first = self.draws.values["seed"]
        seeds = tuple(range(first, first + (self.draws.values["n"] or 1)))
        return Request(self.sliders.asked, seeds, self.sampler.given, sweep)

    def asked_otherwise(self) -> None:
        """Something was changed."""
        self.sliders.warn(self.model.schema.doubts(self.sliders.asked))
        if self.live.isChecked():
            self.draw()

    def draw(self) -> None:
        """Draw what is asked for; what is being drawn is stopped."""
        self.begin(self.request())

    def sweep(self) -> None:
        """Draw one brain again and again, while a covariate goes from one end to the other."""
        from numpy import linspace

        from vol3d.widgets.generation import Sweep

        ends = [box.value() for box in self.sweep_ends]
        values = linspace(*ends, self.sweep_steps.value()).tolist()
        self.begin(self.request(Sweep(self.swept.currentText(), tuple(values))))

    def begin(self, request: "Request") -> None:
        """Draw a request beside the window."""
        from vol3d.widgets.generation import draw

        model = self.model
        unit = getattr(model.schema[request.sweep.name], "unit", "") if request.sweep else ""
        self.layers.begin(request, unit)

        def shown(brain: Any) -> None:
            self.layers.show(model, request, brain)
            if brain.number == 0:
                self.sliders.show_row(brain.row)

        self.work.start(lambda tell: draw(model, request, tell), lambda _: None, shown)

    # -- saving -----------------------------------------------------------------------------------

    def save(self) -> None:
        """Make what the controls ask for as a cohort, with its provenance, as `vol3d generate` does."""
        from vol3d.widgets.generation import cohort_of, make_cohort

        out, segmenter = self.saving.values["out"], self.saving.values["segmenter"]
        if self.saving_work.is_busy:
            return
        if out is None:
            self.saving_work.message.setText("out: name the folder to write")
            return
        try:
            verb = cohort_of(
                Path(self.source.values["bundle"] or READY), Path(out), self.request(), segmenter
            )
        except Vol3dError as error:
            self.saving_work.message.setText(str(error))
            return
        self.saving_work.start(lambda tell: make_cohort(verb, tell), self.saved)

    def saved(self, out: Path) -> None:
        """It is written."""
        self.saving_work.message.setText(f"written: {out}")

    def closeEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """The widget goes."""
        for work in (self.work, self.saving_work):
            work.wait()
        super().closeEvent(event)


def open_model(bundle: str) -> "TrainedGenerator":
    """Load what is needed, and the model; beside the window."""
    from vol3d.widgets import generation

    return generation.open_model(Path(bundle))
