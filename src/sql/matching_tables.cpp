/*
 * Tables by a pattern of their names: see matching_tables.h.
 */
#include "matching_tables.h"

#include "registry/table_list.h"
#include "server/subxact_read.h"

/*
 * OIDs of a schema's tables whose names match, and for each that is a partition of another of them its root. It runs
 * with the caller's search_path, on which pg_catalog may be last.
 */
static List *
find_matching(Oid schema, const char *pattern, List **roots)
{
	static const char query[] =
		"WITH found AS MATERIALIZED (SELECT c.oid, c.relname, c.relispartition FROM pg_catalog.pg_class c"
		" WHERE c.relnamespace OPERATOR(pg_catalog.=) $1"
		"   AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,f}'::pg_catalog.\"char\"[])"
		"   AND c.relname OPERATOR(pg_catalog.~~) $2)"
		"SELECT f.oid, CASE WHEN f.relispartition THEN"
		" (SELECT r.oid FROM pg_catalog.pg_partition_ancestors(f.oid) WITH ORDINALITY a"
		"   JOIN found r ON r.oid OPERATOR(pg_catalog.=) a.relid"
		"   WHERE r.oid OPERATOR(pg_catalog.<>) f.oid"
		"   ORDER BY a.ordinality USING OPERATOR(pg_catalog.>) LIMIT 1) END"
		" FROM found f ORDER BY f.relname USING OPERATOR(pg_catalog.<)";
	Oid types[] = {OIDOID, TEXTOID};
	Datum values[] = {ObjectIdGetDatum(schema), CStringGetTextDatum(pattern)};
	MemoryContext caller = CurrentMemoryContext;
	List *found = NIL;
	SubxactRead read = subxact_read_begin();

	*roots = NIL;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(query, 2, types, values, nullptr, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for tables");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		MemoryContext old = MemoryContextSwitchTo(caller);
		TupleDesc desc = SPI_tuptable->tupdesc;

		found = lappend_oid(found, DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], desc, 1, &isnull)));
		*roots = lappend_oid(*roots, DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], desc, 2, &isnull)));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	subxact_read_end(&read);
	return found;
}

/* Those of the columns that the table has. */
static List *
columns_of(Oid relid, List *columns)
{
	List *found = NIL;
	ListCell *lc;

	foreach (lc, columns)
		if (get_attnum(relid, static_cast<char *>(lfirst(lc))) > 0)
			found = lappend(found, lfirst(lc));
	return found;
}

/* A name that is written wrong would publish what is not to be published. */
static void
check_columns_found(List *tables, List *columns, const char *schema, const char *pattern)
{
	ListCell *lc;
	ListCell *lc2;

	foreach (lc, columns)
	{
		bool found = false;

		foreach (lc2, tables)
			found |= get_attnum(lfirst_oid(lc2), static_cast<char *>(lfirst(lc))) > 0;
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("no table in schema \"%s\" that matches \"%s\" has a column \"%s\"", schema, pattern,
							static_cast<char *>(lfirst(lc))),
					 errhint("List columns in exclude_columns => '{...}' that at least one of the tables has.")));
	}
}

/* What table_list_build_entry() and check_not_listed() say of each of the tables. */
static List *
consider_all(const Registry *registry, List *tables, List *roots, int partitions, List *exclude_columns)
{
	TableListIndex *listed = registry ? table_list_index_create(registry) : nullptr;
	List *matches = NIL;
	ListCell *lc;
	ListCell *root;

	forboth(lc, tables, root, roots)
	{
		MatchingTable *match = static_cast<MatchingTable *>(palloc0(sizeof(MatchingTable)));
		Refusal refusal = {};

		match->relid = lfirst_oid(lc);
		if (OidIsValid(lfirst_oid(root)))
			refusal.reason = psprintf("it is a partition of table %s", get_quoted_table_name(lfirst_oid(root)));
		else
			match->table = table_list_try_build_entry(listed, match->relid, partitions,
													  columns_of(match->relid, exclude_columns), &refusal);
		match->reason = refusal.reason;
		match->hint = refusal.hint;
		matches = lappend(matches, match);
	}
	return matches;
}

List *
matching_tables(const Registry *registry, const char *schema, const char *pattern, int partitions,
				List *exclude_columns)
{
	List *tables;
	List *roots;
	Oid namespace_oid = get_namespace_oid(schema, true);

	if (!OidIsValid(namespace_oid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_SCHEMA), errmsg("schema \"%s\" does not exist", schema),
						errhint("SELECT * FROM siphon_add_tables('public', 'order_%%');")));
	tables = find_matching(namespace_oid, pattern, &roots);
	check_columns_found(tables, exclude_columns, schema, pattern);
	return consider_all(registry, tables, roots, partitions, exclude_columns);
}
