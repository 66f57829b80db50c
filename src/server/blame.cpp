/*
 * Whom an error is to be blamed on: see blame.h.
 */
#include "blame.h"

Blame blame;

/* Memory that is lacking for less is lacking for all tables. */
static constexpr size_t kLargeRow = size_t{8} * 1024 * 1024;
/* Memory that others took may be there again. */
static constexpr int kAttemptsForMemory = 3;

static bool
lacks_memory(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_OUT_OF_MEMORY && OidIsValid(blame.relid) && blame.size >= kLargeRow;
}

bool
is_error_about_data(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_TRANSACTION_ROLLBACK: /* such as a conflict with recovery */
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return false;
		default:
			return true;
	}
}

int
get_max_blamed_attempts(const ErrorData *error)
{
	if (!OidIsValid(blame.relid))
		return 0;
	if (lacks_memory(error))
		return kAttemptsForMemory;
	/* A library that is not there, as its package is not installed where values are decoded. */
	return is_error_about_data(error) || error->sqlerrcode == ERRCODE_UNDEFINED_FILE ? 1 : 0;
}

char *
get_blame_reason(const ErrorData *error)
{
	StringInfoData text;

	if (lacks_memory(error))
		return psprintf("%s for a row of %zu MB", error->message, blame.size / (1024 * 1024));
	/* What to do comes first, as the message has paths and may be cut off. */
	if (blame.type)
		return psprintf("the library of type %s must be installed on this server: %s", blame.type, error->message);
	initStringInfo(&text);
	appendStringInfoString(&text, error->message);
	/* It says what a conflict with recovery was about, for example. */
	if (error->detail)
		appendStringInfo(&text, ": %s", error->detail);
	if (error->hint)
		appendStringInfo(&text, " (%s)", error->hint);
	return text.data;
}
