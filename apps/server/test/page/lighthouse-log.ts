/** A document for tests and pictures of the page: five months of the log of a lighthouse, in which one entry tells of a failure of the lamp. */

const months = ['January', 'February', 'March', 'April', 'May'];
const winds = ['light airs from the south', 'a fresh breeze from the west', 'a north-westerly gale', 'calm, with haze'];
const works = [
  'The lenses were cleaned in the forenoon and the brass polished.',
  'Oil was carried up to the lantern room, four cans of it.',
  'The gallery railing was scraped and given a coat of red lead.',
  'The clockwork was wound every three hours and kept good time.',
  'The boat was hauled up above the spring tide and lashed twice.',
];
const sights = [
  'Two barques passed to the east under reefed topsails.',
  'A pilot cutter stood in and took our letters.',
  'No sail was seen before dusk.',
  'A steamer signalled that all was well on board.',
];

const failure =
  'At twenty minutes past two in the morning the lamp went out. Salt water had come in through a cracked pane on the weather side ' +
  'and had fouled the burner. The keeper and his son trimmed a spare wick by hand, and the light was shown again after forty ' +
  'minutes. The pane was replaced at daybreak, and the burner was boiled in soda.';

/** Passages of some 32 tokens; joined, they are the log. */
export function lighthouseLog(): string[] {
  const entries = months.flatMap((month, m) =>
    Array.from({ length: 28 }, (_, day) => {
      const n = m * 28 + day;
      const isFailure = month === 'March' && day === 13;
      const wind = isFailure ? winds[2] : winds[(n * 5) % 4];
      const said = isFailure ? failure : `${works[(n * 7) % 5]} ${sights[(n * 3) % 4]}`;
      return `${day + 1} ${month}. Wind: ${wind}. ${said}\n\n`;
    }),
  );
  const words = `The log of the lighthouse, kept in the year 1893\n\n${entries.join('')}`.match(/\s*\S+/g) ?? [];
  return Array.from({ length: Math.ceil(words.length / 24) }, (_, i) => words.slice(i * 24, (i + 1) * 24).join(''));
}
