/*
 * A slot is made once all transactions are over that ran when that was begun, prepared ones too. Somebody's may be open for
 * hours: who waits for it should know whose it is.
 */
#ifndef SIPHON_OPEN_TRANSACTIONS_H
#define SIPHON_OPEN_TRANSACTIONS_H

/* Waits some seconds for those that run now. A NOTICE names those that do so still, for which `what` waits. */
extern void wait_for_open_transactions(const char *what);

#endif
