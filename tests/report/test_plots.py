import numpy as np

from vol3d.metrics.agreement import agreement
from vol3d.report.plots import Cloud, clouds


def test_lines_and_points():
    reference = np.linspace(10, 50, 20)
    measured = 0.5 * reference + 10
    cloud = Cloud("ventricles", reference, measured, agreement(reference, measured))
    (axes,) = clouds([cloud], reference="asked for", measured="measured").axes
    identity, fit = axes.lines
    np.testing.assert_allclose(*identity.get_data())
    np.testing.assert_allclose(fit.get_data(), [[10, 50], [15, 35]])
    np.testing.assert_allclose(axes.collections[0].get_offsets().T, [reference, measured])
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlabel() == "asked for (ml)"
    assert "slope = 0.50" in axes.texts[0].get_text()
