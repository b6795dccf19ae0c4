/**
 * Runs contenders alternately, round by round, so that other load on the machine affects all of them alike. Each round another one is first,
 * since the first has cold caches. With `warmUp`, one round before the others is not counted.
 */
export async function inTurns<T>(
  turns: Readonly<Record<string, () => Promise<T>>>,
  options: { readonly rounds: number; readonly warmUp: boolean; readonly onProgress: (line: string) => void },
): Promise<Record<string, T[]>> {
  const names = Object.keys(turns);
  const samples = Object.fromEntries(names.map((name) => [name, [] as T[]]));
  for (let round = options.warmUp ? 0 : 1; round <= options.rounds; round++) {
    options.onProgress(round === 0 ? 'warming up' : `round ${round} of ${options.rounds}`);
    for (let place = 0; place < names.length; place++) {
      const name = names[(round + place) % names.length]!;
      const sample = await turns[name]!();
      if (round > 0) samples[name]!.push(sample);
    }
  }
  return samples;
}
