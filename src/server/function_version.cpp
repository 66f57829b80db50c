/*
 * See function_version.h.
 */
#include "function_version.h"

static void
check_count(const char *function, const char *of_what, int in_catalog, int in_library)
{
	if (in_catalog == in_library)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("extension siphon and the library of this server are of different versions"),
			 errdetail("Function %s() has %d %s, in the library it has %d.", function, in_catalog, of_what, in_library),
			 in_catalog < in_library
				 ? errhint("On the primary: ALTER EXTENSION siphon UPDATE.")
				 : errhint("Install the package of the extension's version on this server, and restart it.")));
}

void
check_argument_count(FunctionCallInfo fcinfo, const char *function, int arguments)
{
	check_count(function, "arguments", PG_NARGS(), arguments);
}

ReturnSetInfo *
begin_rows(FunctionCallInfo fcinfo, const char *function, int columns)
{
	ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);

	InitMaterializedSRF(fcinfo, 0);
	check_count(function, "columns", result->setDesc->natts, columns);
	return result;
}
