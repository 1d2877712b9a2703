// One explanation over time: its launches, and a trip of the longest of them, unit by unit and layer by layer.

function timelineHtml({ cycles, timeline }) {
  if (!timeline)
    return cycles && !source.live && source.timelines < source.timelines_in_store
      ? `<p class="quiet small">This file carries ${source.timelines} of ${source.timelines_in_store} timelines, and not
        this one.</p>`
      : "";
  const all = timeline.launches.map((launch) => ({ ...launch, whole: launch.count * (launch.cycles + launch.host) }));
  const total = all.reduce((sum, launch) => sum + launch.whole, 0);
  return `<h3>Timeline <span class="quiet">${numberText(total)} cycles</span></h3>
    ${launchesHtml(all, total)}${tripHtml(timeline.trip, all[timeline.longest])}`;
}

const launchText = (launch) =>
  `${spoken(launch.kernel)}${launch.count > 1 ? `, ${launch.count} times` : ""}${launch.trips > 1 ? `, ${launch.trips} trips` : ""}`;

// Launches as parts of a bar, as wide as they take long; equal ones stand together, where the first of them is.
function launchesHtml(launches, total) {
  const parts = launches
    .map(
      (launch, i) => `<span class="span tone${i % 4}" style="flex-grow:${((100 * launch.whole) / total).toFixed(3)}"
        title="${safe(launchText(launch))}: ${numberText(launch.whole)} cycles"></span>`,
    )
    .join("");
  const names = launches
    .map(
      (launch, i) => `<li><span class="dot tone${i % 4}"></span>${safe(launchText(launch))}
        <span class="quiet">${((100 * launch.whole) / total).toFixed(1)} %</span></li>`,
    )
    .join("");
  return `<div class="strip" aria-hidden="true">${parts}</div><ul class="launches small">${names}</ul>`;
}

// A lane per unit, darker where it is busier, and the layers that compute below.
function tripHtml(trip, launch) {
  const mean = (shares) => shares.reduce((sum, share) => sum + share, 0) / shares.length;
  const lanes = Object.entries(trip.units)
    .map(([name, shares]) => {
      const cells = shares
        .map((share, i) => `<rect x="${i}" y="0" width="1.02" height="1" style="opacity:${share / 100}"/>`)
        .join("");
      return `<tr><th scope="row">${safe(name)}</th><td class="lane"><svg viewBox="0 0 ${shares.length} 1"
        preserveAspectRatio="none" role="img" aria-label="${safe(name)} over time">${cells}</svg></td>
        <td class="n">${mean(shares).toFixed(0)} %</td></tr>`;
    })
    .join("");
  const layers = trip.layers
    .map(
      ([name, from, to], i) => `<rect class="tone${i % 2}" x="${from}" y="${i % 2}" width="${Math.max(to - from, 1)}"
        height="1"><title>${safe(name)}: ${(from / 10).toFixed(1)} to ${(to / 10).toFixed(1)} %</title></rect>`,
    )
    .join("");
  const points = trip.points > 1 ? ` (${trip.points} path points at once)` : "";
  return `<p class="quiet small">The first trip of ${safe(spoken(launch.kernel))}${points}: ${numberText(trip.cycles)} cycles.
    The darker, the busier; layers in the order in which they compute, by name under the pointer.</p>
    <table class="values lanes"><tbody>${lanes}<tr><th scope="row">layers</th><td class="lane two"><svg viewBox="0 0 1000 2"
    preserveAspectRatio="none" role="img" aria-label="${trip.layers.length} layers in turn">${layers}</svg></td>
    <td class="n">${trip.layers.length}</td></tr></tbody></table>`;
}
