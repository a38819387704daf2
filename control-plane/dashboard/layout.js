// Where the nodes of the map are: in layers along the way of the calls. The same nodes and links are always in the same
// places, so that the map stands still while numbers move. Pure.

/** How often neighbouring layers are put in each other's order. */
const SWEEPS = 6;

/** Places for all nodes (their middle), and the size of it all. `along`: "x" from left to right, "y" downwards. */
export function layout(nodes, links, { along, width, node, gap }) {
  const layers = inOrder(ranked(nodes, links), links);
  const places = new Map();
  const [step, pitch] = along === "x" ? [node.width + gap.along, node.height + gap.across] : [node.height + gap.along, node.width + gap.across];
  const longest = Math.max(1, ...layers.map((layer) => layer.length));
  const across = Math.max(longest * pitch - gap.across, along === "y" ? width - 2 * gap.edge : 0);
  layers.forEach((layer, rank) => {
    const begin = (across - (layer.length * pitch - gap.across)) / 2;
    layer.forEach((one, index) => {
      const a = gap.edge + rank * step + (along === "x" ? node.width : node.height) / 2;
      const b = gap.edge + begin + index * pitch + (along === "x" ? node.height : node.width) / 2;
      places.set(one.id, along === "x" ? { x: a, y: b } : { x: b, y: a });
    });
  });
  const length = layers.length * step - gap.along + 2 * gap.edge;
  const breadth = across + 2 * gap.edge;
  return { places, layers: layers.length, width: along === "x" ? length : breadth, height: along === "x" ? breadth : length };
}

/** Layers by the longest way from a node that nobody calls; a call back to a caller does not count. */
function ranked(nodes, links) {
  const sorted = [...nodes].sort((one, other) => (one.id < other.id ? -1 : 1));
  const called = new Set(links.map((link) => link.to));
  const outward = new Map(sorted.map((node) => [node.id, []]));
  for (const link of links) {
    if (link.from !== link.to) outward.get(link.from)?.push(link.to);
  }
  for (const ends of outward.values()) ends.sort();
  const rank = new Map();
  const onWay = new Set();
  const back = new Set();
  const done = [];
  const visit = (id) => {
    rank.set(id, 0);
    onWay.add(id);
    for (const end of outward.get(id)) {
      if (onWay.has(end)) back.add(`${id} ${end}`);
      else if (!rank.has(end)) visit(end);
    }
    onWay.delete(id);
    done.push(id);
  };
  for (const begin of [...sorted.filter((node) => !called.has(node.id)), ...sorted]) {
    if (!rank.has(begin.id)) visit(begin.id);
  }
  for (const id of done.reverse()) {
    for (const end of outward.get(id)) {
      if (!back.has(`${id} ${end}`)) rank.set(end, Math.max(rank.get(end), rank.get(id) + 1));
    }
  }
  const layers = [];
  for (const node of sorted) {
    const at = rank.get(node.id);
    (layers[at] ??= []).push(node);
  }
  return layers.filter((layer) => layer !== undefined);
}

/** Each layer in the order of the middle of its neighbours, so that few lines cross. */
function inOrder(layers, links) {
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forward = sweep % 2 === 0;
    const all = layers.map((_, index) => (forward ? index : layers.length - 1 - index));
    for (const index of all) {
      const beside = layers[index + (forward ? -1 : 1)];
      if (!beside) continue;
      const place = new Map(beside.map((node, at) => [node.id, at]));
      const middle = (node) => {
        const ends = links.flatMap((link) => (link.to === node.id ? [link.from] : link.from === node.id ? [link.to] : []));
        const known = ends.map((id) => place.get(id)).filter((at) => at !== undefined);
        return known.length > 0 ? known.reduce((sum, at) => sum + at, 0) / known.length : null;
      };
      const before = new Map(layers[index].map((node, at) => [node.id, at]));
      const weight = new Map(layers[index].map((node) => [node.id, middle(node) ?? before.get(node.id)]));
      layers[index].sort((one, other) => weight.get(one.id) - weight.get(other.id) || before.get(one.id) - before.get(other.id));
    }
  }
  return layers;
}
