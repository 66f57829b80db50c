"""What was measured, as lines on the terminal, JSON, plots, and docs/benchmarks.md."""

import json
import os
import platform
import shutil
import subprocess
from statistics import median

# Siphon's targets, as multiples of pgoutput's events per second.
TARGETS = {"W1": {"ring": 3.0, "jetstream": 2.0}, "W2": {"ring": 4.0, "jetstream": 1.5}, "W3": {"ring": 7.0, "jetstream": 4.5}}


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}"


def summarize(workload, bench, rounds):
    """Of rounds (a dict of Result by contestant each), what is reported."""
    summary = {"workload": workload.name, "title": workload.title, "events": bench.events, "wal_bytes": bench.wal_bytes,
               "contestants": {}}
    for name in rounds[0]:
        results = [each[name] for each in rounds]
        ratios = [each["pgoutput"].seconds / each[name].seconds for each in rounds]
        cpu = {process: median(result.cpu.get(process, 0) for result in results)
               for process in sorted({process for result in results for process in result.cpu})}
        summary["contestants"][name] = {
            "seconds": [round(result.seconds, 3) for result in results],
            "events_per_second": round(bench.events / median(result.seconds for result in results)),
            "wal_mb_per_second": round(bench.wal_bytes / median(result.seconds for result in results) / 1e6, 1),
            "ratio": round(median(ratios), 2), "ratio_min": round(min(ratios), 2), "ratio_max": round(max(ratios), 2),
            "cpu_seconds": {process: round(seconds, 2) for process, seconds in cpu.items()},
            "cpu_us_per_event": round(median(result.cpu_total() for result in results) / bench.events * 1e6, 3),
            "published_bytes": round(median(result.published_bytes for result in results)),
            "peak_mb": {process: round(max(result.peak_mb.get(process, 0) for result in results))
                        for process in results[0].peak_mb},
            "target": TARGETS.get(workload.name, {}).get(name),
        }
    return summary


def lines(summary):
    yield f"{summary['workload']}  {summary['title']}; {summary['wal_bytes'] / 1e6:,.0f} MB of WAL"
    yield f"    {'':12}{'events/s':>10} {'WAL MB/s':>9} {'x pgoutput':>11} {'(min-max)':>13} {'target':>7} {'CPU us/event':>13}  CPU seconds by process; bytes published"
    for name, c in summary["contestants"].items():
        target = f">= {c['target']}" if c["target"] else ""
        published = f"; {c['published_bytes'] / 1e6:,.0f} MB" if c["published_bytes"] else ""
        spread = f"({c['ratio_min']:.2f}-{c['ratio_max']:.2f})"
        cpu = ", ".join(f"{process} {seconds:.2f}" for process, seconds in c["cpu_seconds"].items())
        yield (f"    {name:12}{c['events_per_second']:>10,} {c['wal_mb_per_second']:>9,.1f} {c['ratio']:>11.2f} {spread:>13} {target:>7}"
               f" {c['cpu_us_per_event']:>13.3f}  {cpu}{published}")


def write_json(path, report):
    with open(path, "w") as file:
        json.dump(report, file, indent=1)
        file.write("\n")


def document(path, work, result, sections):
    """Puts the results between the two marks of a document, in place of those of the same parts, and the plots into a
    directory beside it."""
    begin, end = "<!-- results, written by make bench -->\n", "<!-- end of results -->\n"
    head, rest = path.read_text().split(begin)
    body, tail = rest.split(end)
    plots = path.with_suffix("")
    plots.mkdir(exist_ok=True)
    parts = {part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in body.split("### ")[1:]}
    origin = (f"{result['date']}: {result['machine']}; PostgreSQL {result['postgresql']}, nats-server {result['nats_server']};"
              f" sizes x {result['scale']:g}, {result['rounds']} rounds.")
    for title, lines, files in sections:
        parts[title] = f"\n{origin}\n\n```\n" + "\n".join(lines) + "\n```\n\n"
        for file in files:
            if (work / f"{file}.svg").exists():
                shutil.copy(work / f"{file}.svg", plots)
                parts[title] += f"![{title}]({plots.name}/{file}.svg)\n\n"
    path.write_text(head + begin + "\n" + "".join(f"### {title}\n{text}" for title, text in parts.items()) + end + tail)


def plot(directory, result):
    """What there is of it, as SVG files; nothing where gnuplot isn't installed."""
    if not shutil.which("gnuplot"):
        return
    if "throughput" in result:
        names = list(result["throughput"][0]["contestants"])
        for file, title, label, value in [
                ("throughput", "WAL to consumer", "million events/s", lambda c: c["events_per_second"] / 1e6),
                ("cpu", "Processor time per event, of those that get changes out", "microseconds", lambda c: c["cpu_us_per_event"])]:
            bars(directory / f"{file}.svg", title, label,
                 {s["workload"]: {n: value(c) for n, c in s["contestants"].items()} for s in result["throughput"]}, names)
    if "latency" in result:
        series = {}
        for r in result["latency"]:
            total = sum(number for _, number in r["histogram"])
            seen = 0
            points = series.setdefault(f"{r['load']}, flush_interval = {r['flush_interval']}", [])
            for limit, number in r["histogram"]:
                seen += number
                points.append((limit, 100 * seen / total))
        curves(directory / "latency.svg", "From commit to JetStream", "milliseconds", "% of events, at most", series, "set logscale x")
    if "growth" in result:
        for file, label, key in [("growth", "time per event, times that of the first", "us_per_event"),
                                 ("memory", "decoder: MB of its own", "decoder_peak_mb")]:
            curves(directory / f"{file}.svg", "More of everything", "times the first", label,
                   {dimension: [(p["x"] / points[0]["x"], p[key] / (points[0][key] if file == "growth" else 1)) for p in points]
                    for dimension, points in result["growth"].items()}, "set logscale x; set yrange [0:*]")


def bars(path, title, label, groups, series):
    """A plot of bars: groups is {group: {series: value}}."""
    data = "\n".join(" ".join([group, *(str(values.get(name, 0)) for name in series)]) for group, values in groups.items())
    columns = ", ".join(f"$data using {i + 2}:xtic(1) title '{name}'" for i, name in enumerate(series))
    gnuplot(path, f"""set title '{title}'
        set ylabel '{label}'
        set style data histogram
        set style histogram clustered gap 1
        set style fill solid 0.85 noborder
        set boxwidth 0.9
        set grid ytics
        set key outside right
        set yrange [0:*]
        $data << END\n{data}\nEND
        plot {columns}""")


def curves(path, title, x_label, y_label, series, settings=""):
    """A plot of lines with points: series is {name: [(x, y), ...]}."""
    blocks = "".join(f"$data{i} << END\n" + "\n".join(f"{x} {y}" for x, y in points) + "\nEND\n"
                     for i, points in enumerate(series.values()))
    plots = ", ".join(f"$data{i} using 1:2 with linespoints pt 7 ps 0.5 title '{name}'" for i, name in enumerate(series))
    gnuplot(path, f"""set title '{title}'
        set xlabel '{x_label}'
        set ylabel '{y_label}'
        set grid
        set key outside right
        {settings}
        {blocks}
        plot {plots}""")


def gnuplot(path, commands):
    script = "\n".join(line.strip() for line in commands.splitlines())
    subprocess.run(["gnuplot"], input=f"set terminal svg size 800,400 background rgb 'white'\nset output '{path}'\n{script}\n",
                   text=True, check=True)
