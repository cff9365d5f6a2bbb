"""The simulator: what a vibration analyst would look for must be there, and nothing else must change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.simulator import Bearing, FaultKind, FaultSpec, Machine, MachineSpec, Mode, OffPeriod, make_plant
from schemas.errors import SettingsError

RATE_HZ = 16_000
PLANT = make_plant(seconds=100)


def _severe(kind: FaultKind, strength_db: float = 0.0) -> FaultSpec:
    return FaultSpec(kind=kind, onset_s=0.0, growth_s=1.0, first=1.0, last=1.0, strength_db=strength_db)


def _with(spec: MachineSpec, kind: FaultKind, strength_db: float = 0.0) -> MachineSpec:
    return replace(spec.healthy(), faults=(_severe(kind, strength_db),))


def _read(spec: MachineSpec, seconds: int = 20, rate_hz: int = RATE_HZ, seed: int = 1) -> np.ndarray:
    return Machine(spec, seed=seed, rate_hz=rate_hz).read(seconds * rate_hz).astype(np.float64)


def _level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples**2)))


def _peak(signal: np.ndarray, at_hz: float, rate_hz: int = RATE_HZ, within: float = 0.02) -> float:
    """Return the largest amplitude of a line within 2 % of ``at_hz``."""
    amplitude = 2 * np.abs(np.fft.rfft(signal * np.hanning(len(signal)))) / (len(signal) / 2)
    hz = np.fft.rfftfreq(len(signal), 1 / rate_hz)
    near = np.abs(hz - at_hz) <= max(within * at_hz, 0.3)
    return float(amplitude[near].max())


def _envelope_spectrum(signal: np.ndarray, low_hz: float, high_hz: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Return the spectrum of the squared envelope of a band (Hilbert transform by way of the FFT), 0 Hz left out."""
    spectrum = np.fft.fft(signal)
    hz = np.fft.fftfreq(len(signal), 1 / rate_hz)
    spectrum[(hz < low_hz) | (hz > high_hz)] = 0
    envelope = np.abs(2 * np.fft.ifft(spectrum)) ** 2
    return np.abs(np.fft.rfft(envelope - envelope.mean()))


def _stands_out(spectrum: np.ndarray, at_hz: float, seconds: int) -> float:
    """Return a line's height over the median of its neighbourhood (from a third below to a third above)."""
    centre, reach = at_hz * seconds, max(2.0, 0.015 * at_hz * seconds)
    bins = np.arange(len(spectrum))
    line = spectrum[np.abs(bins - centre) <= reach].max()
    return float(line / np.median(spectrum[np.abs(bins - centre) <= centre / 3]))


# Bearings


def test_characteristic_orders_of_a_6205_bearing() -> None:
    # The Case Western Reserve bearing data centre gives these for its drive end bearing (SKF 6205-2RS JEM).
    bearing = Bearing(balls=9, ball_mm=7.94, pitch_mm=39.04, contact_deg=0.0)
    assert bearing.bpfo_order == pytest.approx(3.5848, abs=2e-3)
    assert bearing.bpfi_order == pytest.approx(5.4152, abs=2e-3)
    assert bearing.ftf_order == pytest.approx(0.39828, abs=2e-4)
    assert 2 * bearing.bsf_order == pytest.approx(4.7135, abs=2e-3)
    assert bearing.bpfo_order + bearing.bpfi_order == pytest.approx(bearing.balls)


def test_outer_race_defect_in_the_envelope_spectrum() -> None:
    spec, seconds = PLANT.spec("motor-1"), 20
    bpfo, shaft = spec.frequencies_hz["bpfo"], spec.frequencies_hz["shaft"]
    faulty = _envelope_spectrum(_read(_with(spec, "outer_race", -6), seconds)[0], 2800, 4400)
    healthy = _envelope_spectrum(_read(spec.healthy(), seconds)[0], 2800, 4400)
    for harmonic in (1, 2, 3):
        assert _stands_out(faulty, harmonic * bpfo, seconds) > 15
        assert _stands_out(healthy, harmonic * bpfo, seconds) < 10
    # The defect sits still in the load zone: the shaft does not modulate it.
    assert _stands_out(faulty, bpfo, seconds) > 5 * _stands_out(faulty, bpfo + shaft, seconds)


def test_inner_race_defect_is_modulated_by_the_shaft() -> None:
    spec, seconds = PLANT.spec("motor-1"), 20
    bpfi, shaft = spec.frequencies_hz["bpfi"], spec.frequencies_hz["shaft"]
    spectrum = _envelope_spectrum(_read(_with(spec, "inner_race"), seconds)[0], 2800, 4400)
    for line in (shaft, bpfi - shaft, bpfi, bpfi + shaft):
        assert _stands_out(spectrum, line, seconds) > 15


def test_slip_widens_the_higher_harmonics() -> None:
    # Lines of a strictly periodic train would all be equally sharp.
    spec, seconds = replace(_with(PLANT.spec("motor-1"), "outer_race", 10), load_std=0.0), 40
    spectrum = _envelope_spectrum(_read(spec, seconds)[0], 2800, 4400)
    bpfo = spec.frequencies_hz["bpfo"]

    def width(harmonic: int) -> float:
        centre = harmonic * bpfo * seconds
        near = spectrum[round(centre - 8 * seconds) : round(centre + 8 * seconds)] ** 2
        return float(np.sum(near) ** 2 / np.sum(near**2))

    assert width(5) > 3 * width(1)


def test_a_bearing_sounds_through_its_resonance() -> None:
    spec = replace(PLANT.spec("motor-1"), bearing_mode=Mode(9500.0, 0.03))
    rate_hz = 25_600
    faulty, healthy = (_read(s, 5, rate_hz)[0] for s in (_with(spec, "outer_race"), spec.healthy()))
    hz = np.fft.rfftfreq(len(faulty), 1 / rate_hz)
    added = np.abs(np.fft.rfft(faulty)) ** 2 - np.abs(np.fft.rfft(healthy)) ** 2
    in_band = np.sum(added[(hz > 8500) & (hz < 10_500)])
    assert in_band > 0.8 * np.sum(added)
    # A sensor that samples too slowly for the resonance doesn't hear it.
    assert np.array_equal(_read(_with(spec, "outer_race"), 5), _read(spec.healthy(), 5))


# Other faults


@pytest.mark.parametrize(("kind", "order"), [("imbalance", 1.0), ("misalignment", 2.0)])
def test_a_shaft_fault_raises_its_line_in_proportion_to_its_severity(kind: FaultKind, order: float) -> None:
    healthy = replace(PLANT.spec("motor-1").healthy(), lines=(), load_std=0.0)
    at_hz = order * healthy.nominal_hz
    peaks = []
    for severity in (0.25, 0.5, 1.0):
        fault = FaultSpec(kind=kind, onset_s=0, growth_s=1, first=severity, last=severity, strength_db=6.0)
        peaks.append(_peak(_read(replace(healthy, faults=(fault,)))[0], at_hz))
    assert peaks[1] / peaks[0] == pytest.approx(2, rel=0.15)
    assert peaks[2] / peaks[1] == pytest.approx(2, rel=0.15)
    assert peaks[0] > 4 * _peak(_read(healthy)[0], at_hz)


def test_imbalance_grows_with_the_speed_squared() -> None:
    # A machine that is switched on again runs through all speeds.
    spec = replace(
        _with(PLANT.spec("motor-1"), "imbalance", 30),
        lines=(),
        level_dbfs=-60.0,
        floor_dbfs=-120.0,
        off=(OffPeriod(-100.0, 0.0),),
        run_up_s=40.0,
        load_std=0.0,
    )
    signal = _read(spec, 40)[0].reshape(40, -1)
    speed = spec.running(np.arange(40, dtype=np.float64) + 0.5)
    amplitude = np.sqrt(2 * np.mean(signal**2, axis=1))
    fast = (speed > 0.1) & (speed < 0.95)
    slope = np.polyfit(np.log(speed[fast]), np.log(amplitude[fast]), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.15)


def test_misalignment_shows_at_twice_and_three_times_the_speed_on_the_axial_axis() -> None:
    spec = replace(make_plant("accelerometers", seconds=20).spec("fan-1"), shaft_hz=20.0)
    x, _, z = _read(_with(spec, "misalignment", 10), 20, 200)
    x0, _, z0 = _read(spec.healthy(), 20, 200)
    twice = 2 * spec.nominal_hz
    grown_axial, grown_radial = (
        _peak(z, twice, 200) - _peak(z0, twice, 200),
        _peak(x, twice, 200) - _peak(x0, twice, 200),
    )
    assert grown_axial > 2 * grown_radial > 0
    assert _peak(z, 3 * spec.nominal_hz, 200) > 3 * _peak(z0, 3 * spec.nominal_hz, 200)
    assert _peak(z, twice, 200) > 1.5 * _peak(z, 3 * spec.nominal_hz, 200)


def test_imbalance_turns_from_one_radial_axis_to_the_other() -> None:
    spec = replace(make_plant("accelerometers", seconds=20).spec("fan-1"), level_dbfs=-60.0)
    faulty = _read(_with(spec, "imbalance", 30), 20, 200)
    spectra = np.fft.rfft(faulty * np.hanning(faulty.shape[1]))
    at = np.argmax(np.abs(spectra[0]))
    assert at / 20 == pytest.approx(spec.nominal_hz, rel=0.02)
    between = np.angle(spectra[0, at] / spectra[1, at])
    assert abs(between) == pytest.approx(np.pi / 2, abs=0.1)
    assert np.abs(spectra[2, at]) < 0.5 * np.abs(spectra[0, at])


def test_cavitation_is_high_frequency_noise_at_the_vanes_pace() -> None:
    spec, seconds = PLANT.spec("pump-2"), 20
    faulty = _read(_with(spec, "cavitation"), seconds)[0]
    healthy = _read(spec.healthy(), seconds)[0]
    hz = np.fft.rfftfreq(len(faulty), 1 / RATE_HZ)
    power, before = (np.abs(np.fft.rfft(signal)) ** 2 for signal in (faulty, healthy))
    high, low = hz > 4000, (hz > 100) & (hz < 1500)
    assert np.sum(power[high]) > 30 * np.sum(before[high])
    assert np.sum(power[low]) == pytest.approx(np.sum(before[low]), rel=0.1)
    envelope = _envelope_spectrum(faulty, 4000, 7900)
    assert _stands_out(envelope, spec.frequencies_hz["vane_pass"], seconds) > 10
    assert _stands_out(envelope, 1.3 * spec.frequencies_hz["vane_pass"], seconds) < 5


def test_a_loose_part_shows_half_orders_and_impacts() -> None:
    spec = replace(PLANT.spec("motor-1").healthy(), load_std=0.0)
    faulty, healthy = _read(_with(spec, "loose_part", 3))[0], _read(spec)[0]
    for order in (0.5, 1.5, 2.5):
        at_hz = order * spec.nominal_hz
        assert _peak(faulty, at_hz) > 5 * _peak(healthy, at_hz)

    def kurtosis(signal: np.ndarray) -> float:
        return float(np.mean(signal**4) / np.mean(signal**2) ** 2)

    def impact_band(signal: np.ndarray) -> np.ndarray:
        spectrum, hz = np.fft.rfft(signal), np.fft.rfftfreq(len(signal), 1 / RATE_HZ)
        return np.fft.irfft(np.where((hz > 800) & (hz < 1100), spectrum, 0))

    assert kurtosis(impact_band(faulty)) > 2 * kurtosis(impact_band(healthy))


@pytest.mark.parametrize("kind", ["outer_race", "inner_race", "imbalance", "misalignment", "cavitation", "loose_part"])
def test_strength_is_the_level_of_the_fault_alone(kind: FaultKind) -> None:
    spec = replace(PLANT.spec("motor-1").healthy(), load_std=0.0, level_dbfs=-40.0)
    fault = _read(_with(spec, kind, 3.0))[0] - _read(spec)[0]
    assert _level_db(fault) == pytest.approx(-37.0, abs=1.0)


# Healthy machines


@pytest.mark.slow
@pytest.mark.parametrize("machine_id", [spec.machine_id for spec in PLANT.machines])
def test_a_healthy_machine_keeps_its_stated_level_and_drifts_about_it(machine_id: str) -> None:
    spec = PLANT.spec(machine_id).healthy()
    levels = [_level_db(second) for second in _read(spec, 60).reshape(60, -1)]
    assert np.mean(levels) == pytest.approx(spec.level_dbfs, abs=1.5)
    assert 0.1 < np.std(levels) < 1.5


def test_speed_drifts_with_the_load() -> None:
    signal = _read(replace(PLANT.spec("gearbox-1").healthy(), load_std=0.2), 60)[0].reshape(30, -1)
    hz = np.fft.rfftfreq(signal.shape[1], 1 / RATE_HZ)
    mesh = (hz > 730) & (hz < 775)
    peaks = [hz[mesh][np.argmax(np.abs(np.fft.rfft(part))[mesh])] for part in signal]
    assert 1.0 < np.ptp(peaks) < 20


def test_mains_hum_has_its_even_harmonics() -> None:
    spec = replace(PLANT.spec("motor-1").healthy(), hum_db=0.0)
    signal = _read(spec)[0]
    for at_hz in (100, 200, 300):
        assert _peak(signal, at_hz, within=0.001) > 5 * _peak(signal, at_hz + 9, within=0.001)


def test_switched_off_only_the_sensor_is_heard() -> None:
    spec = replace(PLANT.spec("fan-1").healthy(), off=(OffPeriod(5.0, 15.0),))
    signal = _read(spec, 25)[0].reshape(25, -1)
    levels = [_level_db(second) for second in signal]
    assert all(level == pytest.approx(spec.level_dbfs, abs=2) for level in levels[:5] + levels[18:])
    assert all(spec.floor_dbfs - 1 < level < spec.floor_dbfs + 6 for level in levels[7:15])
    assert levels[5] > levels[6] > levels[7]  # it coasts down …
    assert levels[14] < levels[15] < levels[16] < levels[17]  # … and runs up
    quantised = np.rint(signal * 32767)
    assert all(np.std(second) > 3 for second in quantised)  # never flat


def test_nothing_jumps_where_blocks_meet() -> None:
    spec = replace(PLANT.spec("gearbox-1").healthy(), floor_dbfs=-120.0, slope_db_per_octave=-12.0)
    steps = np.abs(np.diff(_read(spec, 30)[0]))
    at_seams = steps[RATE_HZ - 1 :: RATE_HZ]
    assert at_seams.max() < steps.max()
    assert np.mean(at_seams) < 1.5 * np.mean(steps)


# Determinism


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=8), st.sampled_from(["motor-1", "pump-2", "fan-1"]))
def test_blocks_of_any_length_are_the_same_signal(lengths: list[int], machine_id: str) -> None:
    machine = PLANT.machine(machine_id, seed=5)
    in_pieces = np.concatenate([machine.read(length) for length in lengths], axis=1)
    assert np.array_equal(in_pieces, PLANT.machine(machine_id, seed=5).read(sum(lengths)))


def test_seed_run_and_machine_each_make_another_signal() -> None:
    signals = [
        PLANT.machine("pump-1", seed=1).read(1000),
        PLANT.machine("pump-1", seed=2).read(1000),
        PLANT.machine("pump-1", seed=1, healthy=True).read(1000),
        PLANT.machine("pump-2", seed=1).read(1000),
    ]
    for n, one in enumerate(signals):
        for other in signals[n + 1 :]:
            assert not np.array_equal(one, other)


def test_a_fault_leaves_the_signal_before_its_onset_as_it_was() -> None:
    spec = PLANT.spec("motor-1")
    onset = int(spec.faults[0].onset_s)
    faulty, healthy = _read(spec, onset + 5), _read(spec.healthy(), onset + 5)
    assert np.array_equal(faulty[:, : onset * RATE_HZ], healthy[:, : onset * RATE_HZ])
    assert not np.array_equal(faulty[:, onset * RATE_HZ :], healthy[:, onset * RATE_HZ :])


@pytest.mark.parametrize("rate_hz", [100, 200, 8000, 44_100])
def test_other_rates(rate_hz: int) -> None:
    signal = Machine(PLANT.spec("pump-1"), rate_hz=rate_hz).read(3 * rate_hz)
    assert signal.shape == (1, 3 * rate_hz)
    assert np.all(np.isfinite(signal))
    assert _level_db(signal) > -50


# Severity and mistakes


def test_severity_starts_faintly_and_grows_by_equal_factors() -> None:
    fault = FaultSpec(kind="imbalance", onset_s=10, growth_s=20, first=0.01, last=1.0)
    assert fault.severity([0, 9.99, 10, 20, 30, 99]).tolist() == pytest.approx([0, 0, 0.01, 0.1, 1, 1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FaultSpec(kind="rust", onset_s=0), "fault kind is 'rust'"),  # type: ignore[arg-type]
        (lambda: FaultSpec(kind="imbalance", onset_s=0, first=0.0), "0 < first <= last"),
        (lambda: FaultSpec(kind="imbalance", onset_s=0, growth_s=0.0), "in 0.0 s"),
        (lambda: OffPeriod(5, 5), "expected the first before the second"),
        (lambda: MachineSpec(machine_id="a", kind="b", axes=2), "has 2 axes"),
        (lambda: make_plant("mill"), "plant is 'mill'"),
        (lambda: make_plant(seconds=5), "expected at least 10"),
        (lambda: PLANT.spec("pump-9"), "it has pump-1, pump-2"),
        (lambda: PLANT.machine("pump-1", rate_hz=50), "at least 100 Hz"),
    ],
)
def test_mistakes_are_named(make: object, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make()  # type: ignore[operator]
