// A process that answers each call with its own number, for tests of what starts processes again. `die`: it ends with exit status 7;
// `hang`: no answer; `spin`: nothing is answered any more.
// With DIES_AT_ONCE it is gone before it answers anything.
if (process.env.DIES_AT_ONCE) process.exit(9);
process.on('message', (messages) => {
  for (const { type, id, method } of messages) {
    if (type !== 'call') continue;
    if (method === 'die') process.exit(7);
    while (method === 'spin');
    if (method !== 'hang') process.send([{ type: 'result', id, value: process.pid }]);
  }
});
process.on('disconnect', () => process.exit());
