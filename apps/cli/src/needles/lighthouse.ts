/** The facts that are hidden, and the questions that ask for them. The wording is one that a model of 135 million parameters answers when it reads everything. */

/** Places without a lighthouse that a model could know. With several facts in one text each has a place of its own. */
export const lighthousePlaces: readonly string[] = [
  'Ardmoor',
  'Bellhaven',
  'Calderwick',
  'Dunsay',
  'Elverport',
  'Farrowness',
  'Glaswick',
  'Hollinsea',
  'Inverlorn',
  'Jarrowby',
  'Kelmouth',
  'Lorrimer',
  'Marrowick',
  'Northolm',
  'Ostrand',
  'Penhallow',
  'Quillmere',
  'Ravensey',
  'Skarholm',
  'Tolverne',
  'Umberley',
  'Varnport',
  'Westerham',
  'Yarrowby',
  'Zennport',
  'Aldersund',
  'Brackwater',
  'Corriemoor',
  'Drumlochty',
  'Eskbridge',
  'Fennwick',
  'Grimsund',
];

/** @param place null when there is one lighthouse only. */
export function lighthouseFact(number: number, place: string | null = null): string {
  const subject = `special magic number of ${lighthouse(place)}`;
  return `The ${subject} is ${number}. Remember it: the ${subject} is ${number}.`;
}

export function lighthouseQuestion(place: string | null = null): string {
  return `What is the special magic number of ${lighthouse(place)}?`;
}

/** Whether an answer names the number, however its digits are grouped. */
export function namesNumber(answer: string, number: number): boolean {
  return answer.replace(/(?<=\d)[,. ](?=\d)/g, '').includes(String(number));
}

function lighthouse(place: string | null): string {
  return place === null ? 'the lighthouse' : `the ${place} lighthouse`;
}
