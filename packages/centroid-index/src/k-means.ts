/**
 * K-means over consecutive rows, one stretch after another. Neighbouring keys are alike after rotary embedding, so a stretch is clustered on
 * its own (as RetroInfer clusters keys, arXiv 2505.02922).
 */

/** Rows of a stretch, about. */
const stretchLength = 1024;
/** Passes over the rows. */
const numPasses = 2;
/** Rows assigned between two yields. */
const rowsPerYield = 64;

/**
 * Returns the cluster of each row, u16 [n]: ids count up from 0, and each has rows. About `clusterSize` rows share a cluster, more where
 * ids would not fit in u16. Distances are in f64, centres f32; ties go to the smaller id. Costs some n rowLength
 * stretchLength / clusterSize multiplications a pass.
 * @param input.rows f32 [n, rowLength], n at least 1.
 */
export function* clusterRows(input: {
  readonly rows: Float32Array;
  readonly rowLength: number;
  readonly clusterSize: number;
}): Generator<void, Uint16Array> {
  const { rows, rowLength } = input;
  const n = rows.length / rowLength;
  // At most 2^15 clusters, and one more a stretch.
  const clusterSize = Math.max(input.clusterSize, Math.ceil(n / 2 ** 15));
  const numStretches = Math.max(1, Math.floor((n + stretchLength / 2) / stretchLength));
  const clusterOf = new Uint32Array(n);
  let numClusters = 0;
  for (let s = 0; s < numStretches; s++) {
    const [from, to] = [Math.floor((n * s) / numStretches), Math.floor((n * (s + 1)) / numStretches)];
    const stretch = rows.subarray(from * rowLength, to * rowLength);
    let centres: Float32Array[] = firstCentres({
      rows: stretch,
      rowLength,
      count: Math.ceil((to - from) / clusterSize),
    });
    let nearest = yield* nearestCentres(stretch, centres);
    for (let pass = 1; pass < numPasses; pass++) {
      centres = movedCentres(stretch, centres, nearest);
      nearest = yield* nearestCentres(stretch, centres);
    }
    nearest.forEach((c, i) => {
      clusterOf[from + i] = numClusters + c;
    });
    numClusters += centres.length;
  }
  return withoutEmpty(clusterOf);
}

/** Rows spread evenly. */
function firstCentres(of: { readonly rows: Float32Array; readonly rowLength: number; readonly count: number }) {
  const { rows, rowLength, count } = of;
  const n = rows.length / rowLength;
  return Array.from({ length: count }, (_, c) => {
    const row = Math.floor(((2 * c + 1) * n) / (2 * count));
    return rows.slice(row * rowLength, (row + 1) * rowLength);
  });
}

/** The nearest centre of each row: the one of largest row . centre - |centre|^2 / 2. */
function* nearestCentres(rows: Float32Array, centres: readonly Float32Array[]): Generator<void, Uint32Array> {
  const rowLength = centres[0]!.length;
  const offsets = centres.map((centre) => centre.reduce((sum, x) => sum + x * x, 0) / 2);
  const nearest = new Uint32Array(rows.length / rowLength);
  for (let row = 0; row < nearest.length; row++) {
    let most = Number.NEGATIVE_INFINITY;
    for (let c = 0; c < centres.length; c++) {
      const centre = centres[c]!;
      let likeness = -offsets[c]!;
      for (let d = 0; d < rowLength; d++) likeness += rows[row * rowLength + d]! * centre[d]!;
      if (likeness <= most) continue;
      most = likeness;
      nearest[row] = c;
    }
    if (row % rowsPerYield === 0) yield;
  }
  return nearest;
}

/** The means of each centre's rows; one without rows stays. */
function movedCentres(rows: Float32Array, centres: readonly Float32Array[], nearest: Uint32Array): Float32Array[] {
  const rowLength = centres[0]!.length;
  const sums = centres.map(() => new Float64Array(rowLength));
  const counts = new Uint32Array(centres.length);
  nearest.forEach((c, row) => {
    counts[c]!++;
    for (let d = 0; d < rowLength; d++) sums[c]![d]! += rows[row * rowLength + d]!;
  });
  return centres.map((centre, c) =>
    counts[c] === 0 ? centre : Float32Array.from(sums[c]!, (sum) => sum / counts[c]!),
  );
}

/** Renumbers the clusters without those that have no rows; their order stays. */
function withoutEmpty(nearest: Uint32Array): Uint16Array {
  const used = Array.from(new Set(nearest)).sort((a, b) => a - b);
  const ids = new Map(used.map((c, id) => [c, id]));
  return Uint16Array.from(nearest, (c) => ids.get(c)!);
}
