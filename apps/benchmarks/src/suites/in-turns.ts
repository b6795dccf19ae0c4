/**
 * Runs contenders one after another, round by round, so that what else the machine does meets all of them alike. Who is first changes with
 * each round: the one after a long pause has cold caches. With `warmUp`, one round before the others is not counted.
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
